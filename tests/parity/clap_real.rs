//! CLAP at the real size of `larger_clap_general`, with random weights: `tests/reference/clap_real.py FOLDER`.

use std::{fs, time::Instant};

use tonoscope_core::{
    checkpoint::{SafetensorsFile, Source},
    models::clap::ClapFiles,
};
use tonoscope_tests::{assert_close, devices};

fn floats(file: &SafetensorsFile, name: &str) -> (Vec<f32>, Vec<usize>) {
    let raw = file.read(name).unwrap();
    let of = |bytes: &[u8]| f32::from_le_bytes(bytes.try_into().unwrap());
    (raw.bytes.chunks(4).map(of).collect(), raw.shape)
}

/// CPU seconds of this process, all threads together; 0 where the system does not say.
fn cpu_seconds() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let ticks = stat.rsplit(')').next().unwrap_or("").split_whitespace().skip(11).take(2);
    ticks.filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
}

#[test]
#[ignore = "needs the folder that tests/reference/clap_real.py writes, and a minute"]
fn real_clap_vectors_are_those_of_transformers() {
    let folder = std::env::var("TONOSCOPE_REAL_CLAP").expect("TONOSCOPE_REAL_CLAP names the folder");
    let folder = std::path::Path::new(&folder);
    let expected = SafetensorsFile::open(&folder.join("expected.safetensors")).unwrap();
    let (waves, shape) = floats(&expected, "waves");
    let clips: Vec<&[f32]> = waves.chunks(shape[1]).collect();
    let (ids, ids_shape) = floats(&expected, "text.ids");
    let texts: Vec<Vec<u32>> =
        ids.chunks(ids_shape[1]).map(|row| row.iter().map(|&id| id as u32).filter(|&id| id != 1).collect()).collect();
    // A GPU in software would take hours.
    for (device, placement) in devices().into_iter().filter(|(name, _)| *name != "webgpu") {
        let clap = ClapFiles::open(folder).unwrap().load(placement).unwrap();
        let (started, cpu) = (Instant::now(), cpu_seconds());
        let embedded = pollster::block_on(clap.embed_audio(&clips)).unwrap();
        let (wall, cpu) = (started.elapsed().as_secs_f64(), cpu_seconds() - cpu);
        let audio = assert_close("audio.embedding", &embedded.concat(), &floats(&expected, "audio.embedding").0, 2e-5);
        let embedded = pollster::block_on(clap.embed_text(&texts)).unwrap();
        let text = assert_close("text.embedding", &embedded.concat(), &floats(&expected, "text.embedding").0, 2e-5);
        println!("{device}: audio {audio:.1e}, text {text:.1e}; {} clips in {wall:.1} s, {cpu:.1} CPU-s", clips.len());
    }
}
