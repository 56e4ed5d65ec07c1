//! `tonoscope generate`

use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufReader, Write},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use serde::Serialize;
use tonoscope_core::{
    audio::Waveform,
    hooks::{Capture, Hooks, Spec},
    models::{
        musicgen::{Generate, GenerateError, MusicGen, Progress, Prompt, Sampling, SequenceKey, Tie, Window},
        t5::TokenIds,
    },
};

use crate::{
    failure::Misuse,
    files::OutputFolder,
    interrupt, progress,
    session::{DeviceArgs, ModelArgs, Provenance, UsedDevice},
    tensors,
};

/// Longest music that is made in one piece.
const MAX_SECONDS: f64 = 3600.0;

/// Make music from text
///
/// Beside the audio, `run.json` says how it was made.
#[derive(Debug, clap::Args)]
pub(crate) struct GenerateArgs {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    device: DeviceArgs,
    /// Text prompt; give it several times for several pieces. An empty one is no prompt at all
    #[arg(long, value_name = "TEXT")]
    prompt: Vec<String>,
    /// File with one prompt per line; blank lines are left out
    #[arg(long, value_name = "FILE")]
    prompts: Option<PathBuf>,
    /// Seconds of music, what is continued included
    #[arg(long, default_value_t = 8.0)]
    duration: f64,
    /// Weight of the prompt; 1 switches guidance off [default: the checkpoint's, else 3]
    #[arg(long)]
    guidance: Option<f64>,
    /// Sample among that many of the likeliest tokens; 0: among all
    #[arg(long, default_value_t = 250)]
    top_k: usize,
    /// Sample among the likeliest tokens that have this share of the probability; 0: among all
    #[arg(long, default_value_t = 0.0)]
    top_p: f64,
    /// Divides the logits before sampling
    #[arg(long, default_value_t = 1.0)]
    temperature: f64,
    /// Take the likeliest token instead of sampling
    #[arg(long)]
    greedy: bool,
    /// Seed; a prompt gives the same music for the same seed, whatever else is generated
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Continue this recording
    #[arg(long, value_name = "WAV")]
    continue_from: Option<PathBuf>,
    /// Prompts that are computed together
    #[arg(long, default_value_t = 4)]
    batch_size: usize,
    /// Write the codes as well, `[prompt, codebook, frame]`, to `tokens.safetensors`
    #[arg(long)]
    tokens: bool,
    /// Record hook points, such as `decoder.*.resid_post:mean_time`, to `capture.safetensors`
    #[arg(long, value_name = "POINTS", value_delimiter = ',')]
    capture: Vec<Capture>,
    /// Apply the edits of a file
    #[arg(long, value_name = "FILE")]
    edit: Vec<PathBuf>,
    /// Scale each piece to 1 dB below full scale, as audiocraft writes it
    #[arg(long)]
    normalise: bool,
    /// Write 32-bit float WAV instead of 16-bit
    #[arg(long)]
    float: bool,
    /// Folder for the results
    #[arg(long, default_value = "out")]
    out: PathBuf,
    /// Print what was made as JSON
    #[arg(long)]
    json: bool,
    /// Check everything and say what would be done, but do nothing
    #[arg(long)]
    dry_run: bool,
}

/// What `run.json` says.
#[derive(Debug, Serialize)]
struct RunRecord {
    version: &'static str,
    #[serde(flatten)]
    provenance: Provenance,
    device: UsedDevice,
    settings: Settings,
    pieces: Vec<Piece>,
    #[serde(skip_serializing_if = "is_empty")]
    hooks: Spec,
    timings: Timings,
}

fn is_empty(spec: &Spec) -> bool {
    *spec == Spec::default()
}

#[derive(Debug, Serialize)]
struct Settings {
    seconds: f64,
    frames: usize,
    guidance: f64,
    sampling: Sampling,
    batch_size: usize,
    normalise: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    continue_from: Option<PathBuf>,
}

/// One prompt and what became of it.
#[derive(Debug, Serialize)]
struct Piece {
    prompt: String,
    /// Which of the pieces with this prompt, from 0; part of the random key.
    sample: u64,
    tokens: usize,
    audio: String,
    /// The first choice so close that another device may choose otherwise.
    first_tie: Option<Tie>,
    /// Samples beyond full scale, clipped in a 16-bit file.
    clipped: usize,
}

#[derive(Debug, Default, Serialize)]
struct Timings {
    load_s: f64,
    generate_s: f64,
    decode_s: f64,
    steps: usize,
    steps_per_s: f64,
}

pub(crate) fn run(args: GenerateArgs, out: &mut dyn Write) -> Result<()> {
    args.check()?;
    let prompts = args.read_prompts()?;
    let recording = args.continue_from.as_deref().map(read_wav).transpose()?;
    let (edits, edit_tensors) = tensors::read_edits(&args.edit)?;
    let spec = Spec { captures: args.capture.clone(), edits };
    interrupt::listen();
    let found = args.model.find()?;
    let frame_rate = found.files.config.audio_encoder.frame_rate();
    let rate = frame_rate as f64;
    let frames = (args.duration * rate).round() as usize;
    if frames == 0 {
        return Err(Misuse::new(format!("{} s is less than one frame of {} s", args.duration, 1.0 / rate)).into());
    }
    let ids: Vec<TokenIds> = prompts
        .iter()
        .map(|prompt| found.tokenizer.encode(prompt).with_context(|| format!("prompt `{}`", shortened(prompt))))
        .collect::<Result<_>>()?;
    let config = &found.files.config;
    let points = tonoscope_core::models::musicgen::points(config);
    Hooks::check_spec(&spec, &points)?;
    let sampling = if args.greedy {
        Sampling::Greedy
    } else {
        Sampling::Random { temperature: args.temperature, top_k: args.top_k, top_p: args.top_p, seed: args.seed }
    };
    let how = Generate {
        frames,
        guidance: args.guidance.unwrap_or(found.files.generation.guidance_scale),
        sampling,
        window: Window::published(frame_rate),
        depth: None,
    };
    if args.dry_run {
        writeln!(
            out,
            "would generate {} pieces of {:.2} s ({frames} frames, {} decoder layers) with `{}` into `{}`",
            prompts.len(),
            frames as f64 / rate,
            config.decoder.num_hidden_layers,
            args.model.model,
            args.out.display()
        )?;
        return Ok(());
    }
    let folder = OutputFolder::open(&args.out)?;
    let started = Instant::now();
    let opened = args.device.open()?;
    let device = UsedDevice::new(&args.device, &opened);
    let loaded = found.load(&opened)?;
    let mut timings = Timings { load_s: started.elapsed().as_secs_f64(), ..Timings::default() };
    let model = &loaded.model;
    let start = match recording {
        Some(recording) => pollster::block_on(tensors::encode_recording(model, recording))?,
        None => vec![],
    };
    let mut hooks = Hooks::new(&spec, &points, &edit_tensors.place(&model.device()))?;
    let sequences = sequences(&prompts, ids, &start);
    let (codes, ties) = generate(model, &mut hooks, &sequences, &how, args.batch_size, &mut timings)?;
    let pieces = write_audio(&args, &folder, model, &prompts, &sequences, &codes, &ties, &mut timings)?;
    if args.tokens {
        folder.write("tokens.safetensors", &tensors::codes_file(&codes, &prompts)?)?;
    }
    let cache = hooks.finish()?;
    if !cache.entries.is_empty() {
        folder.write("capture.safetensors", &pollster::block_on(tensors::cache_file(&cache, &spec, &prompts))?)?;
    }
    let record = RunRecord {
        version: env!("CARGO_PKG_VERSION"),
        provenance: loaded.provenance()?,
        device,
        settings: Settings {
            seconds: frames as f64 / rate,
            frames,
            guidance: how.guidance,
            sampling,
            batch_size: args.batch_size,
            normalise: args.normalise,
            continue_from: args.continue_from.clone(),
        },
        pieces,
        hooks: spec,
        timings,
    };
    let text = serde_json::to_string_pretty(&record)?;
    folder.write("run.json", text.as_bytes())?;
    if args.json {
        writeln!(out, "{text}")?;
    } else {
        for piece in &record.pieces {
            writeln!(out, "{}", args.out.join(&piece.audio).display())?;
        }
    }
    Ok(())
}

impl GenerateArgs {
    /// What can be said before anything is read.
    fn check(&self) -> Result<(), Misuse> {
        if !(self.duration > 0.0 && self.duration <= MAX_SECONDS) {
            let what = format!("a duration of {} s, expected more than 0 and at most {MAX_SECONDS} s", self.duration);
            return Err(Misuse::new(what));
        }
        if !(self.temperature > 0.0 && self.temperature.is_finite()) {
            let what = format!("a temperature of {}, expected a positive number", self.temperature);
            return Err(Misuse::new(what).hint("for the likeliest token every time, use `--greedy`"));
        }
        if !(0.0..=1.0).contains(&self.top_p) {
            return Err(Misuse::new(format!("a top-p of {}, expected 0 to 1", self.top_p)));
        }
        if self.guidance.is_some_and(|guidance| !guidance.is_finite()) {
            return Err(Misuse::new("a guidance that is not a number"));
        }
        if self.batch_size == 0 {
            return Err(Misuse::new("a batch size of 0, expected 1 or more"));
        }
        Ok(())
    }

    fn read_prompts(&self) -> Result<Vec<String>> {
        let mut prompts = self.prompt.clone();
        if let Some(path) = &self.prompts {
            let bytes = std::fs::read(path).with_context(|| format!("cannot read `{}`", path.display()))?;
            let text = String::from_utf8_lossy(&bytes);
            prompts.extend(text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned));
        }
        if prompts.is_empty() {
            return Err(Misuse::new("no prompt").hint("give one with `--prompt`, or a file with `--prompts`").into());
        }
        Ok(prompts)
    }
}

/// Keys: the prompt's text and how often it came before, so that a piece does not depend on its neighbours.
fn sequences(prompts: &[String], ids: Vec<TokenIds>, start: &[Vec<u32>]) -> Vec<(u64, Prompt)> {
    let mut seen: BTreeMap<&str, u64> = BTreeMap::new();
    let keyed = |(text, ids): (&'_ String, TokenIds)| (text.clone(), ids);
    let mut result = Vec::with_capacity(prompts.len());
    for ((text, ids), original) in prompts.iter().zip(ids).map(keyed).zip(prompts) {
        let sample = seen.entry(original.as_str()).or_default();
        result.push((*sample, Prompt { ids, key: SequenceKey::new(&text, *sample), start: start.to_vec() }));
        *sample += 1;
    }
    result
}

type Codes = Vec<Vec<Vec<u32>>>;

fn generate(
    model: &MusicGen,
    hooks: &mut Hooks,
    sequences: &[(u64, Prompt)],
    how: &Generate,
    batch_size: usize,
    timings: &mut Timings,
) -> Result<(Codes, Vec<Option<Tie>>)> {
    let batches = sequences.len().div_ceil(batch_size);
    let (mut codes, mut ties) = (vec![], vec![]);
    let started = Instant::now();
    for (index, batch) in sequences.chunks(batch_size).enumerate() {
        let prompts: Vec<Prompt> = batch.iter().map(|(_, prompt)| prompt.clone()).collect();
        let bar = progress::steps(0, format!("generating, batch {} of {batches}", index + 1), "steps");
        let mut watch = |progress: Progress| {
            bar.set_length(progress.total as u64);
            bar.set_position(progress.done as u64);
            timings.steps += 1;
            interrupt::check()
        };
        let made =
            pollster::block_on(model.generate(hooks, &prompts, how, &mut watch)).map_err(|error| match error {
                GenerateError::Cancelled => anyhow::anyhow!("interrupted: nothing was written of this batch"),
                other => other.into(),
            })?;
        bar.finish_and_clear();
        codes.extend(made.codes);
        ties.extend(made.first_tie);
    }
    timings.generate_s = started.elapsed().as_secs_f64();
    timings.steps_per_s = timings.steps as f64 / timings.generate_s.max(Duration::from_micros(1).as_secs_f64());
    Ok((codes, ties))
}

#[expect(clippy::too_many_arguments, reason = "one step of the command, with what the earlier ones made")]
fn write_audio(
    args: &GenerateArgs,
    folder: &OutputFolder,
    model: &MusicGen,
    prompts: &[String],
    sequences: &[(u64, Prompt)],
    codes: &Codes,
    ties: &[Option<Tie>],
    timings: &mut Timings,
) -> Result<Vec<Piece>> {
    let bar = progress::steps(prompts.len() as u64, "decoding".to_owned(), "pieces");
    let started = Instant::now();
    let mut pieces = vec![];
    for (index, codes) in codes.iter().enumerate() {
        let wave = pollster::block_on(tensors::decode(model, codes))?;
        let wave = if args.normalise { wave.normalise_peak(1.0) } else { wave };
        let name = format!("piece_{index:04}.wav");
        folder.write(&name, &tensors::wav(&wave, args.float)?)?;
        let (sample, prompt) = &sequences[index];
        pieces.push(Piece {
            prompt: prompts[index].clone(),
            sample: *sample,
            tokens: prompt.ids.len(),
            audio: name,
            first_tie: ties[index],
            clipped: wave.channels().iter().flatten().filter(|sample| sample.abs() > 1.0).count(),
        });
        bar.inc(1);
        if interrupt::asked() {
            anyhow::bail!("interrupted: {} of {} pieces are written", index + 1, prompts.len());
        }
    }
    bar.finish_and_clear();
    timings.decode_s = started.elapsed().as_secs_f64();
    Ok(pieces)
}

fn read_wav(path: &Path) -> Result<Waveform> {
    let file = File::open(path).with_context(|| format!("cannot read `{}`", path.display()))?;
    Waveform::from_wav(BufReader::new(file)).with_context(|| format!("`{}`", path.display()))
}

fn shortened(prompt: &str) -> String {
    let mut text: String = prompt.chars().take(60).collect();
    if text.len() < prompt.len() {
        text.push('…');
    }
    text
}
