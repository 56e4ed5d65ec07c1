//! Files made byte by byte, as programs in the field write them.

use proptest::prelude::*;

use super::{AudioError, SoundFormat, Waveform};

/// Some samples, as 24-bit integers.
const SAMPLES: [i32; 6] = [0, 1, -1, 8_388_607, -8_388_608, 5_000_000];

fn chunk(id: &str, body: &[u8]) -> Vec<u8> {
    let mut chunk = bare(id, body.len() as u32, body);
    chunk.resize(chunk.len().next_multiple_of(2), 0);
    chunk
}

fn bare(id: &str, size: u32, body: &[u8]) -> Vec<u8> {
    [id.as_bytes(), &size.to_le_bytes(), body].concat()
}

fn riff(magic: &str, chunks: &[Vec<u8>]) -> Vec<u8> {
    let body = [b"WAVE".as_slice(), &chunks.concat()].concat();
    bare(magic, body.len() as u32, &body)
}

fn fmt(tag: u16, channels: u16, width: u16, bits: u16) -> Vec<u8> {
    let frame = channels * width;
    let mut body = [tag.to_le_bytes(), channels.to_le_bytes()].concat();
    body.extend([32_000u32.to_le_bytes(), (32_000 * u32::from(frame)).to_le_bytes()].concat());
    body.extend([frame.to_le_bytes(), bits.to_le_bytes()].concat());
    body
}

fn extensible(tag: u16, channels: u16, width: u16, valid: u16) -> Vec<u8> {
    let mut body = fmt(0xfffe, channels, width, 8 * width);
    body.extend([22u16.to_le_bytes(), valid.to_le_bytes(), [0; 2], [0; 2], tag.to_le_bytes()].concat());
    body.extend([0, 0, 0, 0, 0x10, 0, 0x80, 0, 0, 0xaa, 0, 0x38, 0x9b, 0x71]);
    body
}

fn bytes(samples: &[i32], width: usize, drop: u32) -> Vec<u8> {
    samples.iter().flat_map(|sample| (sample << 8 >> drop).to_le_bytes()[4 - width..].to_vec()).collect()
}

fn samples(file: &[u8]) -> Result<Vec<f32>, AudioError> {
    Waveform::decode(file).map(|wave| wave.channels()[0].clone())
}

fn expected(bits: u32) -> Vec<f32> {
    let scale = 2f64.powi(24 - bits as i32 - 23);
    SAMPLES.iter().map(|sample| (f64::from(sample >> (24 - bits)) * scale) as f32).collect()
}

#[test]
fn samples_stand_at_the_top_of_their_container() {
    // Bytes of a sample, valid bits.
    for (width, valid) in [(2, 16), (3, 24), (3, 20), (3, 16), (4, 24), (4, 20), (4, 16)] {
        let clear = 24 - valid;
        let cut: Vec<i32> = SAMPLES.iter().map(|sample| sample >> clear << clear).collect();
        let data = chunk("data", &bytes(&cut, width, 0));
        for fmt in [extensible(1, 1, width as u16, valid as u16), fmt(1, 1, width as u16, valid as u16)] {
            let file = riff("RIFF", &[chunk("fmt ", &fmt), data.clone()]);
            assert_eq!(samples(&file).expect("a WAV file"), expected(valid), "{valid} bits in {width} bytes");
        }
    }
}

#[test]
fn bits_below_the_valid_ones_are_read_too() {
    // A 32-bit mix whose writer says that 24 bits are precise.
    let file = riff("RIFF", &[chunk("fmt ", &extensible(1, 1, 4, 24)), chunk("data", &0x4000_0080_i32.to_le_bytes())]);
    assert_eq!(samples(&file).expect("a WAV file"), [(f64::from(0x4000_0080) / 2f64.powi(31)) as f32]);
}

#[test]
fn floats_of_both_widths_are_read() {
    let values = [0.5f64, -1.25, 1e-3];
    let doubles: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let singles: Vec<u8> = values.iter().flat_map(|value| (*value as f32).to_le_bytes()).collect();
    for (width, data) in [(8, doubles), (4, singles)] {
        for fmt in [fmt(3, 1, width, 8 * width), extensible(3, 1, width, 8 * width)] {
            let file = riff("RIFF", &[chunk("fmt ", &fmt), chunk("data", &data)]);
            assert_eq!(samples(&file).expect("a WAV file"), [0.5, -1.25, 1e-3]);
        }
    }
}

#[test]
fn telephone_codes_are_read() {
    // Smallest, largest, and one in between, of both signs; values as libsndfile decodes them.
    for (tag, codes, values) in [
        (6, [0x55u8, 0xd5, 0x2a, 0xaa, 0x00, 0x80], [-8, 8, -32_256, 32_256, -5_504, 5_504]),
        (7, [0x7f, 0xff, 0x00, 0x80, 0x30, 0xb0], [0, 0, -32_124, 32_124, -3_900, 3_900]),
    ] {
        let file = riff("RIFF", &[chunk("fmt ", &fmt(tag, 1, 1, 8)), chunk("data", &codes)]);
        let values: Vec<f32> = values.iter().map(|&value| value as f32 / 32_768.0).collect();
        assert_eq!(samples(&file).expect("a WAV file"), values);
    }
}

#[test]
fn a_size_that_a_pipe_left_open_means_the_rest_of_the_file() {
    let data = bytes(&SAMPLES, 3, 0);
    for channels in [1, 2] {
        let frame = 3 * u32::from(channels);
        for size in [0, u32::MAX, u32::MAX - 36, 0x7fff_f000, 0x7fff_f000 / frame * frame, 0x8000_0000] {
            let head = riff("RIFF", &[chunk("fmt ", &fmt(1, channels, 3, 24))]);
            // An incomplete frame at the end, as of a recording that was killed.
            let file = [head, bare("data", size, &data), vec![7]].concat();
            let wave = Waveform::decode(&file).expect("a WAV file");
            assert_eq!(wave.samples(), 6 / usize::from(channels), "size {size:#x}");
            assert_eq!(wave.channels()[0][0], 0.0);
        }
    }
}

#[test]
fn a_file_without_sound_is_not_taken_for_one_from_a_pipe() {
    let file = riff(
        "RIFF",
        &[chunk("fmt ", &fmt(1, 1, 2, 16)), chunk("data", &[]), chunk("LIST", b"INFOISFT\x06\0\0\0audio\0")],
    );
    assert_eq!(samples(&file), Err(AudioError::Empty));
}

#[test]
fn chunks_of_odd_length_are_passed_with_and_without_their_pad_byte() {
    let (fmt, data) = (chunk("fmt ", &fmt(1, 1, 3, 24)), chunk("data", &bytes(&SAMPLES, 3, 0)));
    for body in [b"odd".as_slice(), b"<BWFXML></BWFXML>", b"x", b""] {
        for pad in [vec![0], vec![b' '], vec![b'\n'], vec![]] {
            let pad = if body.len() % 2 == 1 { pad } else { vec![] };
            let odd = [bare("iXML", body.len() as u32, body), pad].concat();
            for chunks in [[fmt.clone(), odd.clone(), data.clone()], [odd.clone(), fmt.clone(), data.clone()]] {
                assert_eq!(samples(&riff("RIFF", &chunks)).expect("a WAV file"), expected(24));
            }
        }
    }
}

#[test]
fn files_with_64_bit_sizes_are_read() {
    let data = bytes(&SAMPLES, 3, 0);
    let sizes = |data: u64| [0u64.to_le_bytes(), data.to_le_bytes(), 6u64.to_le_bytes()].concat();
    for magic in ["RF64", "BW64"] {
        for size in [data.len() as u64, 0, u64::MAX] {
            let long = chunk("ds64", &[sizes(size), vec![0; 4]].concat());
            let sound = bare("data", u32::MAX, &data);
            let mut file = riff(magic, &[long, chunk("fmt ", &fmt(1, 1, 3, 24)), sound]);
            if size == data.len() as u64 {
                file.extend(chunk("LIST", b"INFO"));
            }
            assert_eq!(samples(&file).expect("an RF64 file"), expected(24), "size {size}");
        }
    }
    let promised = riff(
        "RF64",
        &[chunk("ds64", &sizes(1 << 40)), chunk("fmt ", &fmt(1, 1, 3, 24)), bare("data", u32::MAX, &data)],
    );
    assert_eq!(samples(&promised), Err(AudioError::Truncated { promised: (1 << 40) / 3, found: 6 }));
}

#[test]
fn wave64_is_read() {
    let name =
        |id: &[u8; 4]| [id.as_slice(), &[0xf3, 0xac, 0xd3, 0x11, 0x8c, 0xd1, 0, 0xc0, 0x4f, 0x8e, 0xdb, 0x8a]].concat();
    let part = |id: &[u8; 4], body: &[u8]| {
        let mut part = [name(id), (24 + body.len() as u64).to_le_bytes().to_vec(), body.to_vec()].concat();
        part.resize(part.len().next_multiple_of(8), 0);
        part
    };
    let mut file =
        [b"riff".as_slice(), &[0x2e, 0x91, 0xcf, 0x11, 0xa5, 0xd6, 0x28, 0xdb, 0x04, 0xc1, 0, 0], &[0; 8]].concat();
    file.extend(name(b"wave"));
    for (id, body) in [(b"junk", vec![1, 2, 3]), (b"fmt ", fmt(1, 1, 3, 24)), (b"data", bytes(&SAMPLES, 3, 0))] {
        file.extend(part(id, &body));
    }
    assert_eq!(samples(&file).expect("a Wave64 file"), expected(24));
}

#[test]
fn aiff_is_read_in_both_byte_orders() {
    let rate = [0x40, 0x0d, 0xfa, 0, 0, 0, 0, 0, 0, 0];
    let part = |id: &[u8; 4], body: &[u8]| [id.as_slice(), &(body.len() as u32).to_be_bytes(), body].concat();
    let little = bytes(&SAMPLES, 3, 0);
    let big: Vec<u8> = little.chunks(3).flat_map(|sample| sample.iter().rev().copied()).collect();
    for (form, kind, data) in [(b"AIFF", None, &big), (b"AIFC", Some(b"NONE"), &big), (b"AIFC", Some(b"sowt"), &little)]
    {
        let mut common = [[0, 1].as_slice(), &6u32.to_be_bytes(), &[0, 24], &rate].concat();
        if let Some(kind) = kind {
            common.extend([kind.as_slice(), &[0, 0]].concat());
        }
        let sound = [[0; 8].as_slice(), data].concat();
        let body = [form.as_slice(), &part(b"COMM", &common), &part(b"SSND", &sound)].concat();
        let wave = Waveform::decode(&part(b"FORM", &body)).expect("an AIFF file");
        assert_eq!((wave.channels()[0].as_slice(), wave.sample_rate()), (expected(24).as_slice(), 32_000));
    }
}

#[test]
fn what_is_not_read_is_named() {
    let error = |file: &[u8]| samples(file).expect_err("not read").to_string();
    let adpcm = riff("RIFF", &[chunk("fmt ", &fmt(2, 1, 1, 4)), chunk("data", &[0; 8])]);
    assert_eq!(error(&adpcm), "WAV file of an unsupported kind: Microsoft ADPCM");
    assert_eq!(error(b"\x30\x26\xb2\x75\x8e\x66\xcf\x11"), "this is Windows Media (WMA), which is not read as sound");
    assert_eq!(error(b"RIFF\x04\0\0\0AVI LIST"), "this is AVI, which is not read as sound");
    assert_eq!(
        error(b"version https://git-lfs.github.com/spec/v1"),
        "not a sound file: it is a Git LFS pointer, whose file was not fetched"
    );
    let zero = riff("RIFF", &[chunk("fmt ", &fmt(1, 0, 2, 16)), chunk("data", &[0; 8])]);
    assert_eq!(error(&zero), "not a WAV file: its header contradicts itself: 0 channels in frames of 0 bytes");
    assert_eq!(
        error(b"\xff\xfeA\0 \0t\0e\0x\0t\0"),
        r"not a sound file: it begins with `\xff\xfeA\x00 \x00t\x00e\x00x\x00`"
    );
}

#[test]
fn tags_before_the_sound_are_passed() {
    let tag = [b"ID3\x04\0\0\0\0\0\x05".as_slice(), &[9; 5]].concat();
    assert_eq!(SoundFormat::of(&[tag.clone(), b"fLaC".to_vec()].concat()), Ok(SoundFormat::Flac));
    assert_eq!(SoundFormat::of(&[tag.clone(), tag, b"\xff\xfb\x90\0".to_vec()].concat()), Ok(SoundFormat::Mpeg));
}

proptest! {
    /// Heads of every container, with sizes and numbers of any value behind them.
    #[test]
    fn no_head_makes_it_panic(kind in 0usize..6, at in 0usize..80, values in proptest::collection::vec(any::<u8>(), 1..24), cut in 0usize..120) {
        let rf64 = [chunk("ds64", &[0; 28]), chunk("fmt ", &extensible(1, 2, 3, 20)), chunk("data", &[5; 36])];
        let mut file = match kind {
            0 => riff("RIFF", &rf64[1..]),
            1 => riff("RF64", &rf64),
            2 => [b"riff".as_slice(), &[0x2e, 0x91, 0xcf, 0x11, 0xa5, 0xd6, 0x28, 0xdb, 0x04, 0xc1, 0, 0], &[0; 80]].concat(),
            3 => b"FORM\0\0\0\x60AIFCCOMM\0\0\0\x18\0\x02\0\0\0\x03\0\x18\x40\x0d\xfa\0\0\0\0\0\0\0sowt\0\0SSND\0\0\0\x1a\0\0\0\0\0\0\0\0..................".to_vec(),
            4 => [b"\0\0\0\x18ftypM4A \0\0\0\0M4A mp42\0\0\0\x40moov".as_slice(), &[0; 90]].concat(),
            _ => [b"fLaC\0\0\0\x22".as_slice(), &[16; 90]].concat(),
        };
        let end = (at + values.len()).min(file.len());
        if at < end {
            file[at..end].copy_from_slice(&values[..end - at]);
        }
        file.truncate(file.len().saturating_sub(cut));
        let _ = Waveform::decode(&file);
    }
}
