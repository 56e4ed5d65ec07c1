//! EnCodec against transformers, as the codec of a tiny MusicGen.

use burn::tensor::{Int, Tensor, TensorData};
use tonoscope_core::{
    checkpoint::{LoadError, Overlay, Placement, Remapped, SafetensorsFile, Source, Taken, Weights},
    models::encodec::{AudioStream, Encodec, EncodecConfig},
};
use tonoscope_tests::{Fixture, assert_close, devices, floats, ints, relative_error};

/// One layer after another in 32 bit; measured 4e-7 at most.
const LAYER: f64 = 1e-5;
/// PARITY.md §8.
const AUDIO: f64 = 2e-5;
/// Products of other sizes add up in another order.
const CHUNKED: f64 = 1e-6;

fn load(fixture: &Fixture, placement: &Placement) -> Encodec {
    let weights = fixture.weights(placement.clone()).sub("audio_encoder");
    Encodec::load(&fixture.config(Some("audio_encoder")), &weights).expect("the fixture fits")
}

#[test]
fn encodec_decodes_as_transformers() {
    let fixture = Fixture::open("musicgen_tiny");
    for (device, placement) in devices() {
        let model = load(&fixture, &placement);
        let codes = fixture.int_tensor::<3>("encodec.codes_in", &placement.device);
        for (index, output) in model.decode_layers(codes.clone()).into_iter().enumerate() {
            let name = format!("encodec.decoder.{index}");
            println!("{device} {name} {:.1e}", fixture.assert_close(&name, output, LAYER));
        }
        println!("{device} audio {:.1e}", fixture.assert_close("encodec.audio", model.decode(codes), AUDIO));
        // One frame is shorter than the reflection at its ends.
        let short = fixture.int_tensor::<3>("encodec.short_codes_in", &placement.device);
        println!("{device} short {:.1e}", fixture.assert_close("encodec.short_audio", model.decode(short), AUDIO));
    }
}

#[test]
fn encodec_encodes_as_transformers() {
    let fixture = Fixture::open("musicgen_tiny");
    for (device, placement) in devices() {
        let model = load(&fixture, &placement);
        let wave = fixture.tensor::<3>("encodec.wave_in", &placement.device);
        for (index, output) in model.encode_layers(wave.clone()).into_iter().enumerate() {
            let name = format!("encodec.encoder.{index}");
            println!("{device} {name} {:.1e}", fixture.assert_close(&name, output, LAYER));
        }
        let codes = model.encode(wave);
        assert_eq!(codes.dims().to_vec(), fixture.ints("encodec.codes_out").1);
        assert_eq!(ints(codes), fixture.ints("encodec.codes_out").0, "{device}");
    }
}

#[test]
fn chunks_make_the_same_audio() {
    let fixture = Fixture::open("musicgen_tiny");
    for (device, placement) in devices() {
        let model = load(&fixture, &placement);
        let codes = fixture.int_tensor::<3>("encodec.codes_in", &placement.device);
        let frames = codes.dims()[2];
        let whole = floats(model.decode(codes.clone()));
        for chunk in 1..=frames + 1 {
            let chunked = floats(model.decode_chunked(codes.clone(), chunk));
            let error = assert_close(&format!("{chunk} frames at a time"), &chunked, &whole, CHUNKED);
            println!("{device} chunk {chunk} {error:.1e}");
        }
        for frames in 1..6 {
            let few = codes.clone().narrow(2, 0, frames);
            let chunked = floats(model.decode_chunked(few.clone(), 1));
            assert_close(&format!("{frames} frames, one at a time"), &chunked, &floats(model.decode(few)), CHUNKED);
        }
    }
}

/// Pushes `codes` in pieces of `sizes`, in turn; the audio, and its samples that were there before the last piece was.
fn streamed(model: &Encodec, codes: &Tensor<3, Int>, channels: usize, sizes: &[usize]) -> (Vec<Tensor<3>>, usize) {
    let frames = codes.dims()[2];
    let mut stream = AudioStream::new(model, channels, frames);
    let (mut at, mut early, mut pieces) = (0, 0, vec![]);
    for size in sizes.iter().cycle() {
        let size = (*size).min(frames - at);
        let piece = stream.push(codes.clone().narrow(2, at, size));
        at += size;
        if at < frames {
            early += piece.as_ref().map_or(0, |piece| piece.dims()[2]);
        }
        pieces.extend(piece);
        if at == frames {
            break;
        }
    }
    (pieces, early)
}

#[test]
fn a_stream_makes_the_same_audio_before_all_codes_are_there() {
    let fixture = Fixture::open("musicgen_tiny");
    for (device, placement) in devices() {
        let model = load(&fixture, &placement);
        let codes = fixture.int_tensor::<3>("encodec.codes_in", &placement.device);
        let [batch, codebooks, frames] = codes.dims();
        // The same numbers as one row of two channels; a batch of each channel's codebooks in turns.
        for channels in [1, 2] {
            let codes =
                if channels == 1 { codes.clone() } else { codes.clone().reshape([batch / 2, 2 * codebooks, frames]) };
            let whole = model.decode_channels(codes.clone(), channels, frames);
            for sizes in [&[1][..], &[2, 5, 1], &[frames - 1], &[frames]] {
                let (pieces, early) = streamed(&model, &codes, channels, sizes);
                let audio = Tensor::cat(pieces, 2);
                assert_eq!(audio.dims(), whole.dims());
                let named = format!("pieces of {sizes:?} frames, {channels} channels");
                let error = assert_close(&named, &floats(audio), &floats(whole.clone()), CHUNKED);
                println!("{device} {named} {error:.1e}");
                let behind = whole.dims()[2] - early;
                assert!(sizes[0] > 1 || behind < whole.dims()[2] / 2, "{named}: {behind} samples waited for the end");
            }
        }
        // Shorter than the reflections at their ends.
        for frames in 1..6 {
            let few = codes.clone().narrow(2, 0, frames);
            let (pieces, _) = streamed(&model, &few, 1, &[1]);
            let named = format!("{frames} frames, one at a time");
            assert_close(&named, &floats(Tensor::cat(pieces, 2)), &floats(model.decode(few)), CHUNKED);
        }
    }
}

#[test]
fn channels_are_decoded_each_on_its_own() {
    let fixture = Fixture::open("musicgen_tiny");
    let (_, placement) = devices().remove(0);
    let model = load(&fixture, &placement);
    let [left, right]: [Vec<f32>; 2] = {
        let codes = fixture.int_tensor::<3>("encodec.codes_in", &placement.device);
        [0, 1].map(|row| floats(model.decode(codes.clone().narrow(0, row, 1))))
    };
    // The two rows of the fixture as the left and right codebooks of one row, in turns.
    let (codes, shape) = fixture.ints("encodec.codes_in");
    let frames = shape[2];
    let turns = (0..2 * shape[1]).flat_map(|book| {
        let start = (book % 2 * shape[1] + book / 2) * frames;
        codes[start..start + frames].to_vec()
    });
    let data = TensorData::new(turns.collect::<Vec<i64>>(), [1, 2 * shape[1], frames]);
    let codes = Tensor::<3, Int>::from_data(data, &placement.device);
    let audio = model.decode_channels(codes.clone(), 2, frames);
    assert_eq!(audio.dims(), [1, 2, left.len()]);
    let both = floats(audio.clone());
    assert_close("left", &both[..left.len()], &left, CHUNKED);
    assert_close("right", &both[left.len()..], &right, CHUNKED);

    let again = model.encode_channels(audio);
    let apart = [left, right].map(|side| {
        let samples = side.len();
        let wave = Tensor::<3>::from_data(TensorData::new(side, [1, 1, samples]), &placement.device);
        ints(model.encode(wave))
    });
    let again = ints(again);
    for book in 0..2 * shape[1] {
        let expected = &apart[book % 2][book / 2 * frames..][..frames];
        assert_eq!(&again[book * frames..][..frames], expected, "codebook {book}");
    }
}

/// The checkpoint with its weight norm spelled otherwise.
fn respelled(fixture: &Fixture, length: &str, direction: &str) -> Box<dyn Source> {
    let open = || SafetensorsFile::open(&fixture.folder().join("model.safetensors")).expect("the fixture");
    let spelled = |name: &String| {
        let new = name.replace("parametrizations.weight.original0", length);
        new.replace("parametrizations.weight.original1", direction)
    };
    let names = open().names();
    let names = names.iter().map(|name| (spelled(name), Taken { from: name.clone(), rows: None })).collect();
    Box::new(Overlay(vec![Box::new(Remapped::new(open(), names))]))
}

#[test]
fn old_spellings_of_weight_norm_are_read() {
    let fixture = Fixture::open("musicgen_tiny");
    let (_, placement) = devices().remove(0);
    let codes = fixture.int_tensor::<3>("encodec.codes_in", &placement.device);
    let config: EncodecConfig = fixture.config(Some("audio_encoder"));
    let expected = floats(load(&fixture, &placement).decode(codes.clone()));
    let old = Weights::new(respelled(&fixture, "weight_g", "weight_v"), placement.clone()).sub("audio_encoder");
    let model = Encodec::load(&config, &old).expect("the same tensors");
    assert_eq!(floats(model.decode(codes.clone())), expected);

    // Without a length, the direction is the weight itself.
    let plain = Weights::new(respelled(&fixture, "unused", "weight"), placement).sub("audio_encoder");
    let model = Encodec::load(&config, &plain).expect("the same tensors");
    assert!(relative_error(&floats(model.decode(codes)), &expected) > 0.01);
    let Err(LoadError::Unused { keys }) = plain.finish() else { panic!("lengths are left over") };
    assert!(keys.iter().any(|key| key.ends_with(".unused")));
}

#[test]
fn all_tensors_of_the_codec_are_used() {
    let fixture = Fixture::open("musicgen_tiny");
    let (_, placement) = devices().remove(0);
    let weights = fixture.weights(placement);
    let config: EncodecConfig = fixture.config(Some("audio_encoder"));
    Encodec::load(&config, &weights.sub("audio_encoder")).expect("the fixture fits");
    let Err(LoadError::Unused { keys }) = weights.finish() else { panic!("the language models are left over") };
    assert!(keys.iter().all(|key| !key.starts_with("audio_encoder.")), "{keys:?}");

    let wider = EncodecConfig { num_filters: 8, ..config.clone() };
    let error = Encodec::load(&wider, &weights.sub("audio_encoder")).expect_err("another shape");
    assert!(
        matches!(&error, LoadError::Shape { key, .. } if key.starts_with("audio_encoder.encoder.layers.0.")),
        "{error}"
    );
    let causal = EncodecConfig { use_causal_conv: true, ..config };
    let error = Encodec::load(&causal, &weights.sub("audio_encoder")).expect_err("not built");
    assert!(error.to_string().contains("use_causal_conv"), "{error}");
}
