//! `tonoscope train`

mod autoencoder;
mod captions;
mod codec;
mod contrast;
mod diffusion;
mod encoded;
#[cfg(test)]
mod fuzz;
mod musicgen;
mod record;
mod settings;
mod sound;
mod source;
mod tagger;

use std::{
    collections::BTreeMap,
    io::Write,
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::{Context, Result, anyhow};
use burn::tensor::{Device, Tensor};
use serde_json::json;
use tonoscope_core::{
    audio::Waveform,
    training::{NamedTensor, StepKey, Task, Trainer},
};

pub(crate) use self::codec::Codec;
use self::{
    autoencoder::AutoencoderModel,
    codec::CodecModel,
    contrast::ContrastStudy,
    diffusion::DiffusionStudy,
    musicgen::{MusicgenStudy, Parts},
    record::{MODEL, ModelFile, Record},
    settings::{Model, Settings},
    sound::SoundStudy,
    tagger::TaggerStudy,
};
use crate::{
    failure::Misuse,
    files::{Inputs, OutputFolder},
    interrupt::{self, Interrupted},
    json_path, progress,
    session::DeviceArgs,
    study::write_wave,
};

/// Train a small model from a file of settings
///
/// The same settings give the same losses on the same machine. A training that was stopped, by Ctrl-C or otherwise, goes on
/// when the command is repeated, as if it had not been. In the end the folder holds `model/`, a checkpoint in the layout
/// of Hugging Face, in 16 bits; `metrics.jsonl`, `figures/` and `sounds/` tell how it went.
#[derive(Debug, clap::Args)]
pub(crate) struct TrainArgs {
    /// Settings, such as `data/training/codec.toml`
    #[arg(value_name = "CONFIG")]
    config: PathBuf,
    /// Folder for the model and for what is needed to go on
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
    /// Stop after this step, and go on another time
    #[arg(long, value_name = "STEP")]
    until: Option<usize>,
    /// Say what would be trained, and stop
    #[arg(long)]
    dry_run: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    device: DeviceArgs,
}

/// A look at a model in training.
#[derive(Default)]
struct Look {
    /// Means over held-out clips.
    numbers: BTreeMap<String, f64>,
    /// What can be listened to, by the names of files.
    sounds: Vec<(String, Waveform)>,
}

/// What differs from one kind of model to another.
trait Study {
    type Task: Task;

    fn task(&self) -> Self::Task;

    /// Makes what it learns from, if that is not made step by step; `folder` is the training's.
    fn prepare(&mut self, _: &OutputFolder) -> Result<()> {
        Ok(())
    }

    /// Puts into place what was trained before.
    fn begin(&self, _: &mut Trainer<Self::Task>) -> Result<()> {
        Ok(())
    }

    /// Where a finished model has its weights: the beginning of their names, and the file in its folder.
    fn weight_files(&self) -> &'static [(&'static str, &'static str)] {
        &[("", "model.safetensors")]
    }

    /// What the step `key` sees.
    fn batch(&self, key: StepKey) -> Result<<Self::Task as Task>::Batch>;

    /// What is never learnt from.
    fn held_out(&self) -> Result<<Self::Task as Task>::Batch>;

    /// How the model does now, beside its loss.
    fn listen(&self, trainer: &Trainer<Self::Task>) -> Result<Look>;

    /// What the finished model's folder holds, in the order in which it is written.
    fn files(&self, tensors: Vec<NamedTensor>) -> Result<Vec<ModelFile>>;
}

pub(crate) fn run(args: &TrainArgs, out: &mut dyn Write) -> Result<()> {
    let (settings, text) = Settings::read(&args.config)?;
    let opened = args.device.open()?;
    let placement = opened.placement;
    let device = placement.device.clone();
    let beside = beside(args);
    match &settings.model {
        Model::Codec { loss, config } => {
            let model = CodecModel { config: config.clone(), loss: loss.clone() };
            train(args, &settings, &text, SoundStudy::new(&settings, model, &device)?, &device, out)
        }
        Model::Autoencoder { loss, config } => {
            let model = AutoencoderModel { config: config.clone(), loss: loss.clone() };
            train(args, &settings, &text, SoundStudy::new(&settings, model, &device)?, &device, out)
        }
        Model::Diffusion { autoencoder, clips, without_text, text_tokens, text_encoder, transformer } => {
            let parts = diffusion::Parts {
                autoencoder: &beside.join(autoencoder),
                clips: *clips,
                without_text: *without_text,
                text_tokens: *text_tokens,
                text_encoder,
                transformer,
            };
            train(args, &settings, &text, DiffusionStudy::new(&settings, &parts, &placement)?, &device, out)
        }
        Model::Tagger { codec, config } => {
            let codec = codec.as_ref().map(|codec| Codec::open(&beside.join(codec), placement)).transpose()?;
            train(args, &settings, &text, TaggerStudy::new(&settings, config, codec, &device)?, &device, out)
        }
        Model::Contrast { autoencoder, clips, programs, held_out_programs, notes_per_program, features, config } => {
            let autoencoder = autoencoder.as_ref().map(|autoencoder| beside.join(autoencoder));
            let parts = contrast::Parts {
                autoencoder: autoencoder.as_deref(),
                clips: *clips,
                programs: [programs, held_out_programs],
                notes_per_program: *notes_per_program,
                features,
                config,
            };
            train(args, &settings, &text, ContrastStudy::new(&settings, &parts, &placement)?, &device, out)
        }
        Model::Musicgen { codec, clips, without_text, text_encoder, decoder } => {
            let codec = beside.join(codec);
            let parts = Parts { codec: &codec, clips: *clips, without_text: *without_text, text_encoder, decoder };
            train(args, &settings, &text, MusicgenStudy::new(&settings, &parts, &placement)?, &device, out)
        }
    }
}

fn train<S: Study>(
    args: &TrainArgs,
    settings: &Settings,
    text: &str,
    mut study: S,
    device: &Device,
    out: &mut dyn Write,
) -> Result<()> {
    let mut trainer = Trainer::new(study.task(), settings.optimiser, settings.steps, settings.seed, device)?;
    study.begin(&mut trainer)?;
    if let Some(start) = &settings.start {
        begin_as(&mut trainer, start, study.weight_files(), device)?;
    }
    let begun = trainer.parameters.averages();
    let elements = trainer.parameters.trained_elements();
    if args.dry_run {
        if args.json {
            let told = json!({"name": settings.name, "parameters": elements, "steps": settings.steps,
                "clips": settings.steps * settings.batch});
            writeln!(out, "{told}")?;
        } else {
            writeln!(
                out,
                "{}: {elements} parameters, {} steps of {} clips of {} s",
                settings.name, settings.steps, settings.batch, settings.seconds
            )?;
        }
        return Ok(());
    }
    let folder = OutputFolder::begin(&args.out, &Inputs::new([&args.config]))?;
    refuse_own_start(&args.out, settings, beside(args))?;
    let mut record = Record::open(folder, text)?;
    study.prepare(record.folder())?;
    if let Some(state) = record.state()? {
        trainer.restore(&state)?;
        record.cut(trainer.key().step);
        progress::note(&format!("going on after step {}", trainer.key().step));
    }
    interrupt::listen();
    let last = args.until.unwrap_or(settings.steps).min(settings.steps);
    let bar = progress::steps(settings.steps as u64, &settings.name, "steps");
    bar.set_position(trainer.key().step as u64);
    bar.reset_eta();
    while trainer.key().step < last && !interrupt::asked() {
        let began = Instant::now();
        let batch = study.batch(trainer.key())?;
        let report =
            pollster::block_on(trainer.step(&batch)).with_context(|| format!("training `{}`", settings.name))?;
        bar.set_message(format!("{} loss {:.4}", settings.name, report.loss));
        bar.inc(1);
        record.step(&report, began.elapsed().as_secs_f64())?;
        let done = trainer.key().step;
        if done.is_multiple_of(settings.validate_every) || done == settings.steps {
            let terms = look(&study, &trainer, &args.out)?;
            let told = format!("step {done} of {}: held-out loss {:.4}", settings.steps, terms["loss"]);
            bar.suspend(|| progress::note(&told));
            record.held_out(done, &terms)?;
        }
        if done.is_multiple_of(settings.save_every) {
            record.save(&pollster::block_on(trainer.save())?)?;
        }
    }
    bar.finish_and_clear();
    let done = trainer.key().step;
    record.save(&pollster::block_on(trainer.save())?)?;
    record.figure(&settings.name)?;
    let mut held_out = record.latest();
    if settings.keep > 0.0 {
        trainer.parameters.mix(&begun, settings.keep);
        held_out = Some(look(&study, &trainer, &args.out)?);
    }
    let model = args.out.join(MODEL);
    // Also of a training that was stopped, so that it can be listened to.
    let files = study.files(pollster::block_on(trainer.export())?)?;
    let bytes = record::model(&model, settings, files, held_out.clone(), done)?;
    if done < last {
        let what = "steps";
        return Err(Interrupted::Finished { finished: done, all: settings.steps, what }.into());
    }
    if args.json {
        let told = json!({"name": settings.name, "parameters": elements, "step": done,
            "model": json_path::shown(&model), "bytes": bytes, "held_out": held_out});
        writeln!(out, "{told}")?;
    } else {
        let held_out = held_out.and_then(|terms| terms.get("loss").copied());
        let held_out = held_out.map_or(String::new(), |loss| format!(", held-out loss {loss:.4}"));
        writeln!(out, "{}: {done} of {} steps{held_out}; {bytes} bytes of weights", model.display(), settings.steps)?;
    }
    Ok(())
}

/// Folder that the paths in the settings start from.
fn beside(args: &TrainArgs) -> &Path {
    args.config.parent().unwrap_or(Path::new("."))
}

/// Refuses to write the finished model over one that the training begins from or listens through.
fn refuse_own_start(out: &Path, settings: &Settings, beside: &Path) -> Result<()> {
    let model = out.join(MODEL);
    let Ok(written) = model.canonicalize() else { return Ok(()) };
    let same = |folder: &PathBuf| folder.canonicalize().is_ok_and(|read| read == written);
    match settings.start.iter().cloned().chain(settings.model.folder().map(|folder| beside.join(folder))).find(same) {
        Some(folder) => {
            let what = format!("`{}` would be written over, but the training reads it", folder.display());
            Err(Misuse::new(what).hint("choose another folder with `--out`").into())
        }
        None => Ok(()),
    }
}

/// What is found out about held-out clips; what can be listened to is written into `out`.
fn look<S: Study>(study: &S, trainer: &Trainer<S::Task>, out: &Path) -> Result<BTreeMap<String, f64>> {
    let mut terms = pollster::block_on(trainer.evaluate(&study.held_out()?))?;
    let Look { numbers, sounds } = study.listen(trainer)?;
    terms.extend(numbers);
    if !sounds.is_empty() {
        let folder = OutputFolder::open(&out.join("sounds"))?;
        for (name, wave) in sounds {
            write_wave(&folder, &format!("{name}.wav"), &wave)?;
        }
    }
    Ok(terms)
}

/// Takes the weights of the model in `folder`, of which none may be missing.
fn begin_as<T: Task>(trainer: &mut Trainer<T>, folder: &Path, files: &[(&str, &str)], device: &Device) -> Result<()> {
    let wanted = trainer.parameters.len();
    let mut taken = 0;
    for (prefix, file) in files {
        let weights = codec::weights(&folder.join(file), device)?;
        taken += trainer.parameters.take(prefix, &weights).with_context(|| format!("`{}`", folder.display()))?;
    }
    if taken != wanted {
        let what = format!("`start`: `{}` has {taken} of the model's {wanted} tensors", folder.display());
        return Err(Misuse::new(what).hint("it must be a model of the same kind and shape").into());
    }
    Ok(())
}

/// All numbers of a tensor, in order.
fn values(tensor: Tensor<3>) -> Result<Vec<f32>> {
    let data = pollster::block_on(tensor.into_data_async())?.convert::<f32>();
    data.try_to_vec().map_err(|error| anyhow!("a tensor that cannot be read: {error:?}"))
}
