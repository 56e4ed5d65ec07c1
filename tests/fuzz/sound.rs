//! Sound and scores.

use tonoscope_core::{
    audio::{WavFormat, Waveform},
    corpus::{Score, Split, caption_of_score},
};
use tonoscope_tests::fuzz::{check, check_repaired, ogg};

/// A second-long ramp at a low rate, in one of the formats that are written.
fn wave(format: WavFormat) -> Vec<u8> {
    let ramp = |sign: f32| (0..200).map(|sample| sign * (sample as f32 / 200.0 - 0.5)).collect();
    Waveform::new(vec![ramp(1.0), ramp(-1.0)], 8000).unwrap().to_wav_bytes(format).unwrap()
}

/// WAV files with a float, an integer and an extensible header.
fn wavs() -> Vec<Vec<u8>> {
    let mut extensible = wave(WavFormat::Pcm16);
    // `WAVE_FORMAT_EXTENSIBLE` needs 24 more bytes of the format's chunk.
    extensible[16] = 40;
    extensible[20..22].copy_from_slice(&[0xfe, 0xff]);
    let more =
        [&[22, 0, 16, 0, 3, 0, 0, 0, 1, 0][..], &[0, 0, 0, 0, 0x10, 0, 0x80, 0, 0, 0xaa, 0, 0x38, 0x9b, 0x71]].concat();
    extensible.splice(36..36, more);
    vec![wave(WavFormat::Float32), wave(WavFormat::Pcm16), extensible]
}

#[test]
fn wav() {
    check("wav", &wavs(), |bytes| {
        if let Ok(wave) = Waveform::from_wav(bytes) {
            drop(wave.to_mono());
        }
    });
}

#[test]
fn resampled() {
    check("resampled", &wavs(), |bytes| {
        if let Ok(wave) = Waveform::from_wav(bytes) {
            drop(wave.resample(32_000));
        }
    });
}

/// A score of two tracks: tempo, program, notes with running status, a key signature and a text.
fn score() -> Vec<u8> {
    let first = [
        &b"\0\xff\x51\x03\x07\xa1\x20\0\xff\x58\x04\x04\x02\x18\x08\0\xff\x59\x02\0\0\0\xff\x01\x03abc"[..],
        b"\0\xff\x2f\0",
    ]
    .concat();
    let mut second = b"\0\xc0\x38".to_vec();
    for key in 60..72u8 {
        second.extend([0, 0x90, key, 100, 48, key, 0, 10, 0x99, 36, 90, 20, 0x89, 36, 0]);
    }
    second.extend(b"\0\xff\x2f\0");
    let mut file = b"MThd\0\0\0\x06\0\x01\0\x02\0\x60".to_vec();
    for track in [first, second] {
        file.extend(b"MTrk");
        file.extend((track.len() as u32).to_be_bytes());
        file.extend(track);
    }
    file
}

#[test]
fn midi() {
    let mut timecode = score();
    timecode[12..14].copy_from_slice(&[0xe7, 0x28]);
    check("midi", &[score(), timecode], |bytes| {
        let _ = Split::of_score(bytes);
        if let Ok(score) = Score::parse(bytes) {
            for excerpt in score.excerpts(4.0).iter().take(8) {
                drop(caption_of_score(excerpt));
            }
        }
    });
}

/// Files of `tests/fixtures/sound` by their endings.
fn recordings(endings: &[&str]) -> Vec<Vec<u8>> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/sound");
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let fits =
        |path: &std::path::PathBuf| path.extension().is_some_and(|found| endings.iter().any(|ending| found == *ending));
    paths.iter().filter(|path| fits(path)).map(|path| std::fs::read(path).unwrap()).collect()
}

#[test]
fn recordings_of_every_format() {
    for (parser, endings) in [
        ("sound_wav", &["wav", "w64"][..]),
        ("sound_aiff", &["aiff", "aifc"]),
        ("sound_flac", &["flac", "oga"]),
        ("sound_mpeg", &["mp3", "mp2"]),
        ("sound_vorbis", &["ogg"]),
        ("sound_opus", &["opus"]),
        ("sound_aac", &["aac", "m4a"]),
    ] {
        check_repaired(parser, &recordings(endings), ogg, |bytes| drop(Waveform::decode(bytes)));
    }
}
