//! Sound files of every kind against libsndfile, libopus and ffmpeg.
//!
//! Fixtures: `tests/reference/sound_formats.py`.

use std::{collections::BTreeMap, fs, path::PathBuf};

use safetensors::SafeTensors;
use serde::Deserialize;
use tonoscope_core::audio::Waveform;

/// What a reference decoder made of a file.
#[derive(Deserialize)]
struct Expected {
    tensor: String,
    rate: u32,
    samples: usize,
    /// Every how many samples are kept.
    stride: usize,
}

/// Largest difference that a file may show.
fn bound(name: &str) -> f32 {
    let ending = name.rsplit('.').next().unwrap_or_default();
    match (name, ending) {
        // Lossless: bit for bit.
        ("alac.m4a" | "pcm_16.oga", _) | (_, "wav" | "w64" | "aiff" | "aifc" | "flac") => 0.0,
        // Two decoders that add up in another order.
        (_, "mp3" | "mp2") => 2e-6,
        (_, "ogg") => 2e-7,
        // ffmpeg's tables of powers and windows are rounded otherwise.
        (_, "m4a" | "aac") => 2e-5,
        // ropus is libopus' decoder in fixed point, the reference is the one in floating point.
        (_, "opus") => 3e-4,
        _ => panic!("`{name}` has no bound"),
    }
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/sound")
}

#[test]
fn sound_files_hold_what_libsndfile_and_ffmpeg_find_in_them() {
    let bytes = fs::read(folder().join("expected.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let (_, metadata) = SafeTensors::read_metadata(&bytes).unwrap();
    let files = &metadata.metadata().as_ref().unwrap()["files"];
    let files: BTreeMap<String, Expected> = serde_json::from_str(files).unwrap();
    assert_eq!(files.len(), fs::read_dir(folder()).unwrap().count() - 1, "a file is missing");
    for (name, Expected { tensor, rate, samples, stride }) in files {
        let wave = Waveform::decode(&fs::read(folder().join(&name)).unwrap())
            .unwrap_or_else(|error| panic!("`{name}`: {error}"));
        let view = tensors.tensor(&tensor).unwrap();
        assert_eq!((wave.sample_rate(), wave.samples()), (rate, samples), "`{name}`");
        assert_eq!(wave.channels().len(), view.shape()[0], "`{name}`");
        let (floats, _) = view.data().as_chunks();
        let mut wanted = floats.iter().copied().map(f32::from_le_bytes);
        let mut worst = 0f32;
        for channel in wave.channels() {
            for (sample, wanted) in channel.iter().step_by(stride).zip(wanted.by_ref().take(view.shape()[1])) {
                worst = worst.max((sample - wanted).abs());
            }
        }
        println!("{name}: {worst:.1e}");
        assert!(worst <= bound(&name), "`{name}`: {worst:.1e}");
    }
}

#[test]
fn a_damaged_page_of_an_ogg_file_is_no_gap_in_the_sound() {
    for name in ["chained.ogg", "celt.opus", "pcm_16.oga"] {
        let whole = fs::read(folder().join(name)).unwrap();
        let second = whole.windows(4).skip(1).position(|bytes| bytes == b"OggS").unwrap() + 1;
        for at in [second + 40, whole.len() - 9] {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            let error = Waveform::decode(&bytes).unwrap_err().to_string();
            assert!(error.contains("not an Ogg file: the page at byte") && error.contains("checksum"), "{error}");
        }
        let error = Waveform::decode(&whole[..whole.len() - 5]).unwrap_err().to_string();
        assert!(error.contains("it ends within the page at byte"), "{error}");
        // A tag behind the sound does no harm.
        assert_eq!(Waveform::decode(&[whole.clone(), b"TAG".to_vec()].concat()), Waveform::decode(&whole));
    }
}

#[test]
fn a_damaged_flac_file_is_no_other_sound() {
    let whole = fs::read(folder().join("pcm_16.flac")).unwrap();
    let mut bytes = whole.clone();
    let last = bytes.len() - 200;
    bytes[last] ^= 1;
    assert!(Waveform::decode(&bytes).is_err());
    assert!(Waveform::decode(&whole[..whole.len() - 100]).is_err());
}

#[test]
fn damaged_sound_files_are_refused_or_read_but_never_panic() {
    let files = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path());
    for path in files.filter(|path| path.extension().unwrap() != "safetensors") {
        let bytes = fs::read(&path).unwrap();
        // Steps that are no multiples of anything, so that every kind of field is hit.
        for at in (0..bytes.len()).step_by(1 + bytes.len() / 97) {
            let _ = Waveform::decode(&bytes[..at]);
            for value in [0, 0x7f, 0xff] {
                let mut bytes = bytes.clone();
                bytes[at] = value;
                let _ = Waveform::decode(&bytes);
            }
        }
    }
}
