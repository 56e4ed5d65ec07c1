//! `tonoscope classify` on the tiny PaSST: what it hears, in which files, and what it says of files that are none.

use std::{
    f64::consts::TAU,
    fs,
    io::Write,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use serde_json::Value;
use tonoscope_core::{
    audio::{WavFormat, Waveform},
    checkpoint::{SafetensorsFile, Source},
};
use tonoscope_tests::{
    Fixture, assert_close,
    judges::tiny_judge,
    server::{head, serve},
};

use super::{fixture, says, stderr, stdout, tonoscope, tonoscope_with};

const PCM: u16 = 1;
const FLOAT: u16 = 3;

/// A folder with a judge in `judge/` and room for audio.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("judge")).unwrap();
        tiny_judge(&folder.path().join("judge"));
        Self(folder)
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    /// Writes `bytes` as `name` and returns its path.
    fn file(&self, name: &str, bytes: &[u8]) -> String {
        fs::write(self.0.path().join(name), bytes).unwrap();
        self.path(name)
    }

    fn classify(&self, args: &[&str]) -> std::process::Output {
        let judge = self.path("judge");
        tonoscope(&[&["classify", "--device", "cpu", "--model", &judge][..], args].concat())
    }

    fn json(&self, args: &[&str]) -> Value {
        let output = self.classify(&[args, &["--json"]].concat());
        assert!(output.status.success(), "{args:?}: {}", stderr(&output));
        serde_json::from_str(&stdout(&output)).expect("JSON")
    }

    /// Logits of every class of one file, in the order of the classes.
    fn logits(&self, file: &str) -> Vec<f32> {
        let report = self.json(&[file, "--top", "0"]);
        let mut classes: Vec<(u64, f32)> = report["files"][0]["classes"]
            .as_array()
            .unwrap()
            .iter()
            .map(|class| (class["index"].as_u64().unwrap(), class["logit"].as_f64().unwrap() as f32))
            .collect();
        classes.sort_by_key(|(index, _)| *index);
        classes.into_iter().map(|(_, logit)| logit).collect()
    }

    /// Status and message for files that are refused; nothing may be printed or written.
    fn refuses(&self, args: &[&str]) -> (i32, String) {
        let out = self.path("logits.safetensors");
        let output = self.classify(&[args, &["--logits", &out]].concat());
        assert!(!output.status.success(), "{args:?} succeeded");
        assert_eq!(stdout(&output), "");
        assert!(!Path::new(&out).exists(), "something was written");
        (output.status.code().unwrap(), stderr(&output))
    }
}

/// A WAV file; `data` is what follows the header, `claimed` what the header says of its length.
fn wav(format: u16, bits: u16, channels: u16, rate: u32, data: &[u8], claimed: usize) -> Vec<u8> {
    let frame = channels * bits.div_ceil(8);
    let mut file = Vec::new();
    file.extend(b"RIFF");
    file.extend((claimed as u32 + 36).to_le_bytes());
    file.extend(b"WAVEfmt ");
    file.extend(16u32.to_le_bytes());
    for number in [format, channels] {
        file.extend(number.to_le_bytes());
    }
    for number in [rate, rate * u32::from(frame)] {
        file.extend(number.to_le_bytes());
    }
    for number in [frame, bits] {
        file.extend(number.to_le_bytes());
    }
    file.extend(b"data");
    file.extend((claimed as u32).to_le_bytes());
    file.extend(data);
    file
}

fn whole(format: u16, bits: u16, channels: u16, rate: u32, data: &[u8]) -> Vec<u8> {
    wav(format, bits, channels, rate, data, data.len())
}

/// Two tones in steps of 1/128, which every format can hold.
fn tones(samples: usize, rate: u32) -> Vec<i32> {
    let tone = |hertz: f64, sample: usize| (TAU * hertz * sample as f64 / f64::from(rate)).sin();
    (0..samples).map(|sample| (90.0 * tone(330.0, sample) + 30.0 * tone(1500.0, sample)).round() as i32).collect()
}

/// `tones` as integers of `bits` bits, little-endian.
fn integers(tones: &[i32], bits: u16) -> Vec<u8> {
    let bytes = usize::from(bits / 8);
    tones
        .iter()
        .flat_map(|&tone| {
            // 8-bit samples are unsigned.
            let value = if bits == 8 { tone + 128 } else { tone << (bits - 8) };
            value.to_le_bytes()[..bytes].to_vec()
        })
        .collect()
}

fn floats(tones: &[i32]) -> Vec<u8> {
    tones.iter().flat_map(|&tone| (tone as f32 / 128.0).to_le_bytes()).collect()
}

#[test]
fn logits_are_those_of_hear21passt() {
    let place = Place::new();
    let expected = Fixture::open_file("passt_tiny", "reference.safetensors");
    let (waves, _) = expected.floats("waves");
    let files: Vec<String> = waves
        .chunks(16_000)
        .chain([expected.floats("long").0.as_slice()])
        .enumerate()
        .map(|(index, wave)| {
            let wave = Waveform::new(vec![wave.to_vec()], 32_000).unwrap();
            place.file(&format!("{index}.wav"), &wave.to_wav_bytes(WavFormat::Float32).unwrap())
        })
        .collect();
    let out = place.path("more/logits.safetensors");
    // The long one in the middle: files of one length are computed together, and come back in the order of the command.
    let args = [files[0].as_str(), &files[2], &files[1], "--top", "3", "--logits", &out];
    let report = place.json(&args);
    let file = SafetensorsFile::open(Path::new(&out)).unwrap();
    assert_eq!(file.shape("logits").unwrap(), [3, 19]);
    let bytes = file.read("logits").unwrap().bytes.into_owned();
    let logits: Vec<f32> = bytes.chunks(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap())).collect();
    let short = [&logits[..19], &logits[2 * 19..]].concat();
    // The front end's 32-bit noise goes through the network, as in the tests of the judge.
    assert_close("short clips", &short, &expected.floats("scene_logits").0, 2e-5);
    assert_close("long clip", &logits[19..2 * 19], &expected.floats("long_logits").0, 2e-5);
    let listed: Vec<String> = serde_json::from_str(&file.metadata()["files"]).unwrap();
    assert_eq!(listed, [files[0].as_str(), &files[2], &files[1]]);
    let labels: Vec<String> = serde_json::from_str(&file.metadata()["labels"]).unwrap();
    assert_eq!((labels.len(), labels[18].as_str()), (19, "class 18"));
    let first = &report["files"][0];
    assert_eq!(
        (&first["sample_rate"], &first["channels"], &first["seconds"]),
        (&32_000.into(), &1.into(), &0.5.into())
    );
    let classes = first["classes"].as_array().unwrap();
    assert_eq!(classes.len(), 3);
    let best = (0..19).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap();
    assert_eq!(classes[0]["index"], best);
    let sigmoid = 1.0 / (1.0 + (-f64::from(logits[best])).exp());
    assert!((classes[0]["probability"].as_f64().unwrap() - sigmoid).abs() < 1e-12);
    assert_eq!(report["sha256"].as_str().unwrap().len(), 64);
}

#[test]
fn probabilities_and_the_table() {
    let place = Place::new();
    let file = place.file("a.wav", &whole(PCM, 16, 2, 44_100, &integers(&tones(44_100, 44_100), 16)));
    let report = place.json(&[&file, "--top", "0", "--probabilities", "softmax"]);
    let classes = report["files"][0]["classes"].as_array().unwrap();
    let of = |class: &Value| class["probability"].as_f64().unwrap();
    assert_eq!(classes.len(), 19);
    assert!((classes.iter().map(of).sum::<f64>() - 1.0).abs() < 1e-12);
    assert!(classes.windows(2).all(|pair| of(&pair[0]) >= of(&pair[1])));
    let table = stdout(&place.classify(&[&file, "--top", "2", "--probabilities", "softmax"]));
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines[0], format!("{file}  0.50 s, 44100 Hz, 2 channels"));
    assert_eq!(lines.len(), 3);
    let words: Vec<&str> = lines[1].split_whitespace().collect();
    assert_eq!(words[..2], ["1", "class"]);
    assert_eq!(words[3], format!("{:.4}", of(&classes[0])));
}

#[test]
fn every_format_sounds_the_same() {
    let place = Place::new();
    let tones = tones(16_000, 32_000);
    let expected = place.logits(&place.file("f.wav", &whole(FLOAT, 32, 1, 32_000, &floats(&tones))));
    for bits in [8, 16, 24, 32] {
        let file = place.file("i.wav", &whole(PCM, bits, 1, 32_000, &integers(&tones, bits)));
        assert_eq!(place.logits(&file), expected, "{bits} bit");
    }
}

#[test]
fn channels_are_averaged_and_rates_converted() {
    let place = Place::new();
    let tones = tones(4_000, 8_000);
    // Six channels whose mean is the signal.
    let six: Vec<i32> = tones.iter().flat_map(|&tone| [tone, 0, tone, tone * 2, tone, tone]).collect();
    let bytes: Vec<u8> = six.iter().flat_map(|&tone| (tone << 15).to_le_bytes()[..3].to_vec()).collect();
    let got = place.logits(&place.file("six.wav", &whole(PCM, 24, 6, 8_000, &bytes)));
    let mono = Waveform::new(vec![tones.iter().map(|&tone| tone as f32 / 256.0).collect()], 8_000).unwrap();
    let resampled = mono.resample(32_000).unwrap();
    assert_eq!(resampled.samples(), 16_000);
    let expected = place.logits(&place.file("mono.wav", &resampled.to_wav_bytes(WavFormat::Float32).unwrap()));
    assert_close("six channels at 8 kHz", &got, &expected, 2e-5);
}

#[test]
fn files_that_are_no_sound() {
    let place = Place::new();
    let good = place.file("good.wav", &whole(PCM, 16, 1, 32_000, &integers(&tones(16_000, 32_000), 16)));
    let half = integers(&tones(16_000, 32_000), 16);
    let mut broken = floats(&tones(16_000, 32_000));
    broken[400..404].copy_from_slice(&f32::NAN.to_le_bytes());
    let cases: [(&str, Vec<u8>, &[&str]); 8] = [
        ("empty.wav", vec![], &["not a sound file: it is empty", "hint:"]),
        ("text.wav", b"This is not music at all, whatever its name says.".to_vec(), &["not a sound file", "ffmpeg"]),
        ("none.wav", whole(PCM, 16, 1, 32_000, &[]), &["no samples"]),
        ("nan.wav", whole(FLOAT, 32, 1, 32_000, &broken), &["sample 100 of channel 0 is NaN"]),
        ("lies.wav", wav(PCM, 16, 1, 32_000, &half, half.len() * 1000), &["cut short", "16000000", "16000"]),
        ("short.wav", whole(PCM, 16, 1, 32_000, &half[..6_000]), &["94 ms", "151 ms"]),
        ("rate.wav", whole(PCM, 16, 1, 3, &half), &["sample rate 3 Hz"]),
        ("half.wav", whole(FLOAT, 16, 1, 32_000, &vec![0; 80_000]), &["16-bit floats in 2 bytes", "ffmpeg"]),
    ];
    for (name, bytes, parts) in cases {
        let bad = place.file(name, &bytes);
        let result = place.refuses(&[&good, &bad, &good]);
        says(&result, 1, &[&[name][..], parts].concat());
        assert!(!result.1.contains("good.wav"), "{}", result.1);
    }
    says(&place.refuses(&[&good, &place.path("gone.wav")]), 1, &["cannot read", "gone.wav"]);
    says(&place.refuses(&[&place.path("judge")]), 1, &["judge"]);
    says(&place.refuses(&[]), 2, &["AUDIO"]);
}

#[test]
fn classifiers_that_are_not_there() {
    let place = Place::new();
    let file = place.file("a.wav", &whole(PCM, 16, 1, 32_000, &integers(&tones(16_000, 32_000), 16)));
    let torch = place.path("torch");
    let run = |model: &str| {
        let args = ["classify", "--device", "cpu", "--model", model, &file];
        let output = tonoscope_with(&args, &[("TORCH_HOME", &torch)]);
        (output.status.code().unwrap(), stderr(&output))
    };
    says(&run("passst"), 2, &["no classifier", "did you mean `passt`?"]);
    says(&run("./no/such.pt"), 2, &["no/such.pt", ".safetensors"]);
    let release = "passt-s-f128-p16-s10-ap.476-swa.pt";
    says(&run("passt"), 1, &[release, &torch, "curl", "https://github.com/kkoutini/PaSST/releases/"]);
    let folder = PathBuf::from(&torch).join("hub/checkpoints");
    fs::create_dir_all(&folder).unwrap();
    tiny_judge(&folder);
    fs::rename(folder.join("passt.pt"), folder.join(release)).unwrap();
    let found = run("passt");
    assert_eq!(found.0, 0, "{}", found.1);

    let other = place.path("judge/other.safetensors");
    fs::copy(fixture("musicgen_tiny").join("model.safetensors"), &other).unwrap();
    says(&run(&place.path("judge")), 2, &["2 `.pt` and `.safetensors` files"]);
    says(&run(&other), 1, &["other.safetensors", "PaSST", "head.1.weight"]);
}

#[test]
fn classifiers_that_do_not_fit() {
    let place = Place::new();
    let file = place.file("a.wav", &whole(PCM, 16, 1, 32_000, &integers(&tones(16_000, 32_000), 16)));
    let with = |config: &str| {
        fs::write(place.0.path().join("judge/config.json"), config).unwrap();
        place.refuses(&[&file])
    };
    let of_tiny = fs::read_to_string(place.0.path().join("judge/config.json")).unwrap();
    says(&with(r#"{"model_type": "musicgen"}"#), 1, &["heads", "32 wide", "config.json"]);
    says(&with(r#"{"model_type": "passt", "num_heads": 4}"#), 1, &["freq_new_pos_embed", "[1, 32, 3, 1]", "hint:"]);
    says(&with(r#"{"model_type": "passt", "num_hats": 4}"#), 1, &["num_hats", "num_heads", "config.json"]);
    says(&with("{"), 1, &["config.json"]);
    let labels = of_tiny.replacen('{', r#"{"labels": ["Guitar"],"#, 1);
    says(&with(&labels), 1, &["1 names are given for 19 classes"]);
    let names: Vec<String> = (0..19).map(|class| format!("\"name {class}\"")).collect();
    let labels = of_tiny.replacen('{', &format!(r#"{{"labels": [{}],"#, names.join(",")), 1);
    fs::write(place.0.path().join("judge/config.json"), labels).unwrap();
    assert!(stdout(&place.classify(&[&file])).contains("name 1"));
    fs::write(place.0.path().join("judge/config.json"), &of_tiny).unwrap();
    let weights = place.0.path().join("judge/passt.pt");
    let bytes = fs::read(&weights).unwrap();
    fs::write(&weights, &bytes[..bytes.len() / 2]).unwrap();
    says(&place.refuses(&[&file]), 1, &["passt.pt", "corrupt or truncated"]);
}

#[test]
fn a_classifier_at_an_address_is_fetched_once() {
    let place = Place::new();
    let file = place.file("a.wav", &whole(PCM, 16, 1, 32_000, &integers(&tones(16_000, 32_000), 16)));
    let weights = fs::read(place.0.path().join("judge/passt.pt")).unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let (served, count) = (weights.clone(), Arc::clone(&asked));
    let address = serve(move |request, stream| {
        count.fetch_add(1, Ordering::SeqCst);
        assert_eq!(request.path, "/v1/tiny.pt");
        head(stream, 200, "", served.len())?;
        stream.write_all(&served)
    });
    let cache = place.0.path().join("cache");
    let classify = |offline: &str, judge: &str| {
        let home = place.0.path().to_str().unwrap();
        let environment = [
            ("HF_HUB_CACHE", cache.to_str().unwrap()),
            ("HF_HUB_OFFLINE", offline),
            ("HOME", home),
            ("TORCH_HOME", home),
        ];
        let output = tonoscope_with(&["classify", &file, "--model", judge, "--device", "cpu"], &environment);
        (output.status.code().unwrap(), stderr(&output))
    };
    let tiny = format!("{address}/v1/tiny.pt");
    says(&classify("1", &tiny), 1, &["was not fetched yet", "HF_HUB_OFFLINE"]);
    says(&classify("1", "passt"), 1, &["passt-s-f128-p16-s10-ap.476-swa.pt", "HF_HUB_OFFLINE"]);
    says(&classify("0", &format!("{address}/v1/tiny.bin")), 2, &["tiny.bin", ".safetensors"]);
    let secret = classify("0", "http://me:secret@127.0.0.1/tiny.pt");
    says(&secret, 1, &["the classifier's address", "it holds a user name or a password"]);
    assert!(!secret.1.contains("secret") && !secret.1.contains("HF_TOKEN"), "{}", secret.1);
    assert_eq!(asked.load(Ordering::SeqCst), 0);
    // What is fetched is whole; that it is no release says the next step.
    says(&classify("0", &tiny), 1, &["heads", "config.json"]);
    let folder = fs::read_dir(cache.join("judges")).unwrap().next().unwrap().unwrap().path();
    assert_eq!(fs::read(folder.join("tiny.pt")).unwrap(), weights);
    fs::copy(place.0.path().join("judge/config.json"), folder.join("config.json")).unwrap();
    says(&classify("1", &tiny), 0, &[]);
    assert_eq!(asked.load(Ordering::SeqCst), 1);
}
