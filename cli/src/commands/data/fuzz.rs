//! Soundfonts and their sounds, mutated.

use tonoscope_tests::fuzz::{check, check_repaired, ogg};

use super::{BUILT_IN, render::play_note, soundfont::Soundfont, vorbis};

/// The shortest Ogg stream of the built-in soundfont.
fn stream() -> Vec<u8> {
    let is_first = |page: &[u8]| page.starts_with(b"OggS\0\x02");
    let starts: Vec<usize> = (0..BUILT_IN.len() - 6).filter(|&at| is_first(&BUILT_IN[at..])).collect();
    let streams = starts.windows(2).map(|pair| &BUILT_IN[pair[0]..pair[1]]);
    streams.min_by_key(|stream| stream.len()).unwrap().to_vec()
}

/// A chunk of a RIFF file.
fn chunk(id: &[u8], body: &[u8]) -> Vec<u8> {
    let mut chunk = [id, &(body.len() as u32).to_le_bytes(), body].concat();
    chunk.resize(chunk.len().next_multiple_of(2), 0);
    chunk
}

fn words(values: &[u16]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// A soundfont of one program of one sample: as it is, or compressed.
fn soundfont(samples: &[u8], compressed: bool) -> Vec<u8> {
    let name = |text: &str| format!("{text:\0<20}").into_bytes();
    let length = if compressed { samples.len() } else { samples.len() / 2 };
    let presets = [
        [name("p"), words(&[0, 0, 0]), vec![0; 12]].concat(),
        [name("EOP"), words(&[255, 255, 1]), vec![0; 12]].concat(),
    ];
    let long = |value: usize| (value as u32).to_le_bytes();
    let sample = |end: usize, kind: u16| {
        let loops = [long(4), long(16)].concat();
        [name("s"), [long(0), long(end)].concat(), loops, long(16_000).to_vec(), vec![60, 0], words(&[0, kind])]
            .concat()
    };
    let tables = [
        chunk(b"phdr", &presets.concat()),
        chunk(b"pbag", &words(&[0, 0, 1, 0])),
        chunk(b"pmod", &[0; 10]),
        chunk(b"pgen", &words(&[41, 0, 0, 0])),
        chunk(b"inst", &[name("i"), words(&[0]), name("EOI"), words(&[1])].concat()),
        chunk(b"ibag", &words(&[0, 0, 2, 0])),
        chunk(b"imod", &[0; 10]),
        // How it is looped, then which sample it is.
        chunk(b"igen", &words(&[54, 1, 53, 0, 0, 0])),
        chunk(b"shdr", &[sample(length, if compressed { 0x11 } else { 1 }), sample(0, 0)].concat()),
    ];
    let lists = [
        chunk(b"LIST", &[b"INFO".to_vec(), chunk(b"ifil", &[2, 0, 1, 0]), chunk(b"INAM", b"name\0\0")].concat()),
        chunk(b"LIST", &[b"sdta".to_vec(), chunk(b"smpl", samples)].concat()),
        chunk(b"LIST", &[b"pdta".to_vec(), tables.concat()].concat()),
    ];
    chunk(b"RIFF", &[b"sfbk".to_vec(), lists.concat()].concat())
}

fn plain() -> Vec<u8> {
    let samples: Vec<u8> = (0..64i16).flat_map(|sample| (sample * 500 - 16_000).to_le_bytes()).collect();
    soundfont(&samples, false)
}

#[test]
fn soundfonts() {
    let seeds = [plain(), soundfont(&stream(), true)];
    for seed in &seeds {
        assert_eq!(Soundfont::read(seed, &|_| true).unwrap().programs, [0], "the seeds are soundfonts");
    }
    check_repaired("soundfonts", &seeds, ogg, |bytes| drop(Soundfont::read(bytes, &|_| true)));
}

#[test]
fn played_soundfonts() {
    // Only `data render notes` plays soundfonts from outside; phrases are played by the built-in one.
    let seed = plain();
    assert!(play_note(&Soundfont::read(&seed, &|_| true).unwrap(), 0, 60, 100).is_ok(), "the seed can be played");
    check("played_soundfonts", &[seed], |bytes| {
        if let Ok(font) = Soundfont::read(bytes, &|_| true)
            && let Some(&program) = font.programs.first()
        {
            drop(play_note(&font, program, 60, 100));
        }
    });
}

#[test]
fn compressed_sounds() {
    let seed = stream();
    assert!(!vorbis::decode(&seed, 1 << 20).unwrap().is_empty(), "the seed is sound");
    check_repaired("vorbis", &[seed], ogg, |bytes| drop(vorbis::decode(bytes, 1 << 20)));
}
