//! `tonoscope lens`

mod figures;
mod plan;
mod tables;
mod unit;

use std::{io::Write, path::PathBuf, time::Instant};

use anyhow::{Context, Result, bail};
use tonoscope_core::lens::{TranslatorFile, Translators, Tuning};

pub(crate) use plan::LensPlan;
pub(crate) use tables::finish;
pub(super) use unit::stopped;

use self::{
    plan::{Mode, PlannedPrompt},
    unit::Lens,
};
use super::concept_args::ConceptArgs;
use crate::{
    failure::Misuse,
    files::{Inputs, OutputFolder},
    interrupt,
    judge::JudgeArgs,
    progress, prompt_file,
    study::{LayerList, StudyArgs, StudyRecord, StudyTimings, keyed, unfinished},
    tensors,
    units::Units,
};

/// Listen to what each layer of the decoder already knows
///
/// Layers are counted by how many have run: 1 is the first alone, the last is the whole model. Besides audio there are
/// tables of what each layer says about every token, of how well the judge recognises each concept, and of how far apart
/// the layers are, with figures of all of them.
#[derive(Debug, clap::Args)]
pub(crate) struct LensArgs {
    /// Text prompt; several times for several. Without one, those of `--prompts` or `--concepts`
    #[arg(long, value_name = "TEXT")]
    prompt: Vec<String>,
    /// Prompt file, one prompt a line, as `prompts generate` or `prompts template` writes it
    #[arg(long, value_name = "FILE")]
    prompts: Option<PathBuf>,
    #[command(flatten)]
    concepts: ConceptArgs,
    /// Layers: `all`, or numbers and ranges such as `1,12,20..24` (`20..24` ends before 24, `20..=24` with it)
    #[arg(long, default_value = "all")]
    layers: LayerList,
    /// How a layer is heard
    #[arg(long, value_enum, default_value_t = Mode::EarlyExit)]
    mode: Mode,
    /// Translators to reuse with `--mode tuned`, as an earlier run saved them
    #[arg(long, value_name = "FILE")]
    translators: Option<PathBuf>,
    /// Prompts that translators are fitted on, none of which is read afterwards
    #[arg(long, value_name = "N", default_value_t = 20)]
    fit_prompts: usize,
    /// Penalty of the translators, relative to the mean variance of a feature
    #[arg(long, default_value_t = 1e-3)]
    alpha: f64,
    #[command(flatten)]
    judge: JudgeArgs,
    /// Do without the judge: no recognisability
    #[arg(long)]
    no_judge: bool,
    /// Prompts whose audio is kept, layer by layer [default: all of `--prompt` and `--prompts`, 1 per concept of `--concepts`]
    #[arg(long, value_name = "N")]
    audio: Option<usize>,
    /// Write what each layer says at every step, not only the means
    #[arg(long)]
    per_step: bool,
    #[command(flatten)]
    study: StudyArgs,
}

pub(crate) fn run(args: &LensArgs, out: &mut dyn Write) -> Result<()> {
    args.check()?;
    let job = args.study.job.job()?;
    let set = args.concepts.set()?;
    let prompts = args.all_prompts(&set)?;
    interrupt::listen();
    let found = args.study.model.find()?;
    let how = args.study.generate(&found)?;
    if how.frames > how.window.frames {
        let seconds = how.frames as f64 / found.files.config.audio_encoder.frame_rate() as f64;
        let what = format!("{seconds} s is more than the model sees at once");
        return Err(Misuse::new(what).hint("the lens reads up to 30 s").into());
    }
    let all = found.files.config.decoder.num_hidden_layers;
    let layers = args.layers.expand(1..all + 1)?;
    let read: Vec<_> = prompts.iter().map(|prompt| keyed(&found, &prompt.text)).collect::<Result<_>>()?;
    args.study.readable.check(
        &found.tokenizer,
        prompts.iter().zip(&read).map(|(prompt, read)| (prompt.text.as_str(), read.ids.as_slice())),
    )?;
    let judge = if args.no_judge { None } else { Some(args.judge.find()?) };
    if let Some(judge) = &judge {
        for concept in &set.concepts {
            concept.relevant(&judge.labels)?;
        }
        for prompt in prompts.iter().filter(|prompt| prompt.measured.is_empty()) {
            let prompt = tensors::shortened(&prompt.text);
            progress::note(&format!("`{prompt}` names no concept, so that its recognisability is not measured"));
        }
    }
    let given = args.translators.as_deref().map(read_translators).transpose()?;
    let fitted_on = args.fitted_on(&set, &prompts, given.is_some())?;
    if args.study.dry_run {
        writeln!(
            out,
            "would read {} of {all} layers ({}) of {} prompts of {:.2} s with `{}` into `{}`",
            layers.len(),
            args.mode.name(),
            prompts.len(),
            how.frames as f64 / found.files.config.audio_encoder.frame_rate() as f64,
            args.study.model.model,
            args.study.out.display()
        )?;
        return Ok(());
    }
    let folder = OutputFolder::begin(&args.study.out, &Inputs::new(args.translators.iter().chain(&args.prompts)))?;
    let started = Instant::now();
    let opened = args.study.device.open()?;
    let fitted_prompts: Vec<_> = fitted_on.iter().map(|text| keyed(&found, text)).collect::<Result<_>>()?;
    let mut ready = args.study.load(found, &opened, &how)?;
    ready.basis.judge = judge.as_ref().map(crate::judge::FoundJudge::sha256).transpose()?;
    let judge = judge.map(|judge| judge.load(opened.placement.clone())).transpose()?;
    let mut timings = StudyTimings { load_s: started.elapsed().as_secs_f64(), ..StudyTimings::default() };
    let model = &ready.loaded.model;
    let kept = args.audio.unwrap_or(if args.has_own_prompts() { usize::MAX } else { 1 });
    let plan = LensPlan {
        command: LensPlan::COMMAND.to_owned(),
        basis: ready.basis.clone(),
        mode: args.mode,
        read: layers.clone(),
        concepts: set.concepts.clone(),
        prompts: prompts.into_iter().map(|prompt| PlannedPrompt { audio: prompt.index < kept, ..prompt }).collect(),
        translators: given.as_ref().map(|(_, checksum)| checksum.clone()),
        fitted_on,
        alpha: args.alpha,
        per_step: args.per_step,
        tokens: args.study.tokens,
    };
    let units = Units::open(&folder, &serde_json::to_value(&plan)?, args.study.overwrite)?;
    let names = || (0..plan.prompts.len()).map(|index| plan.unit(index));
    let stopped = |error| units.interrupted(error, names(), "prompts");
    let translators = match (args.mode, given) {
        (Mode::Tuned, Some((file, _))) => Some(file),
        (Mode::Tuned, None) => Some(fit(&ready, &plan, &fitted_prompts, &folder).map_err(stopped)?),
        _ => None,
    };
    let translators = translators.map(|file| Translators::new(&file, model)).transpose()?;
    let lens = Lens { model, plan: &plan, judge: judge.as_ref(), translators: translators.as_ref(), folder: &folder };
    let share = job.share(plan.prompts.len(), "prompts");
    let todo: Vec<usize> = share.filter(|&index| !units.has(&plan.unit(index))).collect();
    let bar = progress::steps(todo.len() as u64 * lens.ticks(), "reading layers", "steps");
    let started = Instant::now();
    for (done, &index) in todo.iter().enumerate() {
        let unit = lens.unit(index, &read[index], &mut |ticks| {
            bar.set_position(done as u64 * lens.ticks() + ticks);
            interrupt::check()
        });
        let unit = unit.map_err(stopped)?;
        units.write(&plan.unit(index), &serde_json::to_vec(&unit)?)?;
        timings.units_made += 1;
    }
    bar.finish_and_clear();
    timings.units_s = started.elapsed().as_secs_f64();
    StudyRecord::new(LensPlan::COMMAND, &ready.provenance, &ready.device, &plan.settings()?, timings).write(&folder)?;
    if unfinished(&units, names(), "prompts", &args.study.out, out)? {
        return Ok(());
    }
    finish(&plan, &units, &folder, args.study.json, out)
}

fn read_translators(path: &std::path::Path) -> Result<(TranslatorFile, String)> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read `{}`", path.display()))?;
    let file = TranslatorFile::from_bytes(&path.to_string_lossy(), bytes)?;
    Ok((file, crate::session::sha256(path)?))
}

/// Fits translators on runs of their own, or takes those that an earlier run of the same settings has saved.
fn fit(
    ready: &crate::study::Ready,
    plan: &LensPlan,
    prompts: &[tonoscope_core::models::musicgen::Prompt],
    folder: &OutputFolder,
) -> Result<TranslatorFile> {
    const NAME: &str = "translators.safetensors";
    let path = folder.path().join(NAME);
    // Its key says on what they were fitted: those of another run are fitted anew.
    let key = plan.translators_key()?;
    let key_path = folder.path().join("translators.json");
    if path.is_file() && std::fs::read(&key_path).is_ok_and(|there| there == key) {
        return Ok(read_translators(&path)?.0);
    }
    let model = &ready.loaded.model;
    let how = plan.basis.generate();
    let layers: Vec<usize> = (1..=plan.basis.layers).collect();
    let mut tuning = Tuning::new(model, &layers)?;
    let bar = progress::steps(prompts.len() as u64, "fitting translators", "prompts");
    for prompt in prompts {
        let mut hooks = tonoscope_core::hooks::Hooks::none();
        let made = pollster::block_on(
            model.generate(&mut hooks, std::slice::from_ref(prompt), &how, &mut |_| interrupt::check()),
        );
        let made = made.map_err(unit::stopped)?;
        let text = model.encode_text(&mut hooks, std::slice::from_ref(&prompt.ids));
        tuning.observe(model, &text, &made.codes[0], &how)?;
        bar.inc(1);
    }
    bar.finish_and_clear();
    let spinner = progress::spinner("solving for the translators");
    let file = pollster::block_on(tuning.fit(model, plan.alpha, &plan.basis.identity()))?;
    spinner.finish_and_clear();
    // Without a key while they are replaced: a kill in between must not leave these under the key of others.
    if key_path.exists() {
        std::fs::remove_file(&key_path).with_context(|| format!("cannot remove `{}`", key_path.display()))?;
    }
    folder.write(NAME, &file.to_bytes()?)?;
    folder.write("translators.json", &key)?;
    Ok(file)
}

impl LensArgs {
    fn check(&self) -> Result<()> {
        self.study.sampling.check(self.study.duration)?;
        if self.has_own_prompts() && self.concepts.choice.is_given() {
            let given = if self.prompt.is_empty() { "--prompts" } else { "--prompt" };
            let misuse = Misuse::new(format!("both `{given}` and `--concepts`"));
            return Err(misuse.hint("`--prompt` reads your prompts, `--concepts` those of the concepts").into());
        }
        if self.translators.is_some() && self.mode != Mode::Tuned {
            return Err(Misuse::new("`--translators` are for `--mode tuned` alone").into());
        }
        if !(self.alpha > 0.0 && self.alpha.is_finite()) {
            return Err(Misuse::new(format!("an alpha of {}, expected a positive number", self.alpha)).into());
        }
        Ok(())
    }

    fn has_own_prompts(&self) -> bool {
        !self.prompt.is_empty() || self.prompts.is_some()
    }

    fn all_prompts(&self, set: &tonoscope_core::concepts::ConceptSet) -> Result<Vec<PlannedPrompt>> {
        if self.has_own_prompts() {
            let mut texts = self.prompt.clone();
            if let Some(path) = &self.prompts {
                texts.extend(prompt_file::read(path)?);
            }
            let named = |text: &str| {
                let named = set.concepts.iter().filter(|concept| concept.is_named_in(text));
                named.map(|concept| concept.name.clone()).collect()
            };
            let planned = |(index, text): (usize, String)| PlannedPrompt {
                concept: None,
                index,
                measured: named(&text),
                text,
                audio: false,
            };
            return Ok(texts.into_iter().enumerate().map(planned).collect());
        }
        if !self.concepts.choice.is_given() {
            let misuse = Misuse::new("no prompt");
            return Err(misuse
                .hint("give one with `--prompt`, a file with `--prompts`, or concepts with `--concepts all`")
                .into());
        }
        let mut all = vec![];
        for (concept, prompts) in self.concepts.prompts(set)? {
            let of_concept = prompts.into_iter().enumerate();
            all.extend(of_concept.map(|(index, text)| PlannedPrompt {
                concept: Some(concept.name.clone()),
                index,
                text,
                audio: false,
                measured: vec![concept.name.clone()],
            }));
        }
        Ok(all)
    }

    /// Prompts that translators are fitted on: those of all concepts in turn that are not read themselves.
    fn fitted_on(
        &self,
        set: &tonoscope_core::concepts::ConceptSet,
        read: &[PlannedPrompt],
        given: bool,
    ) -> Result<Vec<String>> {
        if self.mode != Mode::Tuned || given {
            return Ok(vec![]);
        }
        let texts: std::collections::HashSet<&str> = read.iter().map(|prompt| prompt.text.as_str()).collect();
        let mut pools = vec![];
        for concept in &set.concepts {
            // From the end: the first prompts are those that are read.
            let mut prompts = set.prompts(concept, set.available(concept))?;
            prompts.retain(|prompt| !texts.contains(prompt.as_str()));
            pools.push(prompts);
        }
        let mut chosen: Vec<String> = vec![];
        while chosen.len() < self.fit_prompts {
            let mut any = false;
            for pool in &mut pools {
                while let Some(prompt) = pool.pop() {
                    if !chosen.contains(&prompt) && chosen.len() < self.fit_prompts {
                        chosen.push(prompt);
                        any = true;
                        break;
                    }
                }
            }
            if !any {
                break;
            }
        }
        if chosen.is_empty() {
            bail!(Misuse::new("no prompt is left to fit translators on").hint(
                "read fewer with `--prompts-per-concept`, ask for some with `--fit-prompts`, or give `--translators`"
            ));
        }
        Ok(chosen)
    }
}
