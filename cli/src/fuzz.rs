//! Parsers that commands share, on mutated files.

use std::{fs, io::Write};

use flate2::{Compression, write::GzEncoder};
use safetensors::{Dtype, tensor::TensorView};
use tonoscope_core::captures;
use tonoscope_tests::fuzz::{check, check_repaired, safetensors};

use crate::{archive, audio_info, csv_input::CsvInput, report, tensors, units::Units};

#[global_allocator]
static MEMORY: tonoscope_tests::fuzz::Counting = tonoscope_tests::fuzz::Counting;

/// A file of floats counted up.
pub(crate) fn floats(tensors: &[(&str, &[usize])], metadata: &[(&str, &str)]) -> Vec<u8> {
    let stored: Vec<(&str, &[usize], Vec<u8>)> = tensors
        .iter()
        .map(|&(name, shape)| {
            let values = (0..shape.iter().product::<usize>()).flat_map(|index| (index as f32).to_le_bytes());
            (name, shape, values.collect())
        })
        .collect();
    let views =
        stored.iter().map(|(name, shape, bytes)| (*name, TensorView::new(Dtype::F32, shape.to_vec(), bytes).unwrap()));
    let metadata = metadata.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect();
    tensors::to_file(views.collect(), metadata).unwrap()
}

/// A file of captures of two prompts.
pub(crate) fn captured() -> Vec<u8> {
    let axes = r#"{"decoder.0.resid_post": ["branch", "prompt", "step", "feature"],
        "decoder.1.self_attn.q": ["branch", "prompt", "step", "head", "feature"]}"#;
    let tensors: [(&str, &[usize]); 2] =
        [("decoder.0.resid_post", &[2, 2, 3, 2]), ("decoder.1.self_attn.q", &[1, 2, 3, 2, 2])];
    floats(&tensors, &[("axes", axes), ("prompts", r#"["a guitar", "a piano"]"#), ("steps", "[0, 1, 2]")])
}

#[test]
fn captured_tensors() {
    check_repaired("captures", &[captured()], safetensors, |bytes| {
        if let Ok((found, _)) = captures::from_bytes(bytes) {
            drop(captures::join(&[(2, found.clone()), (2, found)]));
        }
    });
}

#[test]
fn csv_tables() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audio_info.csv");
    let seeds = [
        "diffusion_step,prompt_index,sample_index,prompt,tag.aspects,tag.bpm\n10,0,0,\"a, guitar\",\"['guitar', 'bass']\",120\n\
         20,1,0,b,[],0\n",
        "\u{feff}prompt,tag.aspects,tag.bpm,diffusion_step\r\n\"é \"\"x\"\"\",['a'],0.5,1\r\n",
    ]
    .map(|text| text.as_bytes().to_vec());
    check("audio_info", &seeds, |bytes| {
        fs::write(&path, bytes).unwrap();
        drop(audio_info::read(&path));
        if let Ok(input) = CsvInput::open(&path) {
            drop(input.each(|_| Ok(())));
        }
    });
}

/// A tar file of two files in a folder.
fn tar_file() -> Vec<u8> {
    let mut builder = tar::Builder::new(vec![]);
    for (name, content) in [("notes/examples.json", &b"{}"[..]), ("notes/audio/a.wav", b"sound")] {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, content).unwrap();
    }
    builder.into_inner().unwrap()
}

fn gzipped(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(vec![], Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A tar file whose headers have the right checksums.
fn checksummed(tar: &[u8]) -> Vec<u8> {
    let mut tar = tar.to_vec();
    for block in tar.chunks_exact_mut(512).filter(|block| block[257..262] == *b"ustar") {
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
    tar
}

/// Unpacks into a folder of its own, in which nothing but the target may appear.
fn unpack(bytes: &[u8]) {
    let folder = tempfile::tempdir().unwrap();
    let (archive, target) = (folder.path().join("a.tar.gz"), folder.path().join("inner/target"));
    fs::create_dir(folder.path().join("inner")).unwrap();
    fs::write(&archive, bytes).unwrap();
    let limits = archive::Limits { entries: 50, file: 1 << 20, all: 4 << 20 };
    let unpacked = archive::unpack(&archive, &target, &limits, &mut |_| {});
    let left = |folder| fs::read_dir(folder).unwrap().count();
    assert_eq!(
        (left(folder.path()), left(&folder.path().join("inner"))),
        (2, usize::from(unpacked.is_ok())),
        "{unpacked:?}"
    );
}

#[test]
fn archives() {
    check("archive_gz", &[gzipped(&tar_file())], unpack);
    check_repaired("archive_tar", &[tar_file()], checksummed, |bytes| unpack(&gzipped(bytes)));
}

#[test]
fn edit_files() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("edit.safetensors");
    let edits = r#"[{"points": "decoder.1.mlp_out", "change": {"do": "scale", "factor": 2}}]"#;
    check_repaired("edit_files", &[floats(&[("v", &[2])], &[("tonoscope.edits", edits)])], safetensors, |bytes| {
        fs::write(&path, bytes).unwrap();
        drop(tensors::read_edits(&[path.clone(), path.clone()]));
    });
}

#[test]
fn keys_of_units() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("units")).unwrap();
    let seed = br#"{"command": "generate", "settings": {"seed": 1, "prompts": ["a"]}}"#.to_vec();
    check("unit_key", &[seed], |bytes| {
        fs::write(folder.path().join("units/key.json"), bytes).unwrap();
        drop(Units::existing(folder.path()).map(|units| units.names().is_ok()));
    });
}

/// Records and tables of folders that a report shows.
#[test]
fn reports() {
    let summary = "technique,site,effect,effect_low,effect_high,precision,precision_low,precision_high\n\
                   patch,resid,0.5,0.4,0.6,0.9,0.8,1.0\nsteer,attn,0.1,,,0.2,,\n";
    let record = |model: &str| {
        format!(
            r#"{{"command": "intervene", "model": "{model}", "settings": {{"model_layers": 3, "model_width": 8}},
            "pieces": [{{"audio": "a.wav", "prompt": "p", "sample": 0}}]}}"#
        )
    };
    let folder = tempfile::tempdir().unwrap();
    let [mutated, other] = ["one", "two"].map(|name| folder.path().join(name));
    for path in [&mutated, &other] {
        fs::create_dir_all(path.join("figures")).unwrap();
        fs::write(path.join("run.json"), record("a")).unwrap();
        fs::write(path.join("summary.csv"), summary).unwrap();
        fs::write(path.join("a.wav"), b"RIFF").unwrap();
    }
    fs::write(other.join("run.json"), record("b").replace('3', "5")).unwrap();
    let svg = r#"<svg xmlns="http://www.w3.org/2000/svg" width="10" height="10"><path d="M0 0"/></svg>"#;
    let table = "file,group,label,prompt,details\na.wav,g,l,p,d\n";
    let good = |name: &str| fs::read(mutated.join(name)).unwrap_or_default();
    for (parser, name, seed) in [
        ("report_run", "run.json", record("a")),
        ("report_summary", "summary.csv", summary.to_owned()),
        ("report_clips", "audio.csv", table.to_owned()),
        ("report_figure", "figures/f.svg", svg.to_owned()),
    ] {
        let before = good(name);
        check(parser, &[seed.into_bytes()], |bytes| {
            fs::write(mutated.join(name), bytes).unwrap();
            // Two models make one more figure, which takes longer than all else.
            let folders =
                if name == "summary.csv" { vec![mutated.clone(), other.clone()] } else { vec![mutated.clone()] };
            drop(report::page(&folders, folder.path(), 1 << 16));
        });
        if before.is_empty() {
            fs::remove_file(mutated.join(name)).unwrap_or_default();
        } else {
            fs::write(mutated.join(name), before).unwrap();
        }
    }
}
