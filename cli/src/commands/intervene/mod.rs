//! `tonoscope intervene`

mod directions;
mod figures;
mod plan;
mod tables;
mod unit;

use std::{collections::BTreeMap, io::Write, ops::Range, path::PathBuf, time::Instant};

use anyhow::{Context, Result};
use tonoscope_core::{
    concepts::{Concept, ConceptSet, Indices},
    hooks::{Branch, Site},
    interventions::{Feed, Means, Technique},
    models::{musicgen::Prompt, passt::Labels},
};

pub(crate) use plan::InterventionPlan;
pub(crate) use tables::finish;

use self::{
    plan::{PlannedConcept, Unit},
    unit::{CleanUnit, Worker, file_name, interrupted},
};
use super::concept_args::ConceptArgs;
use crate::{
    failure::Misuse,
    files::OutputFolder,
    interrupt,
    judge::JudgeArgs,
    progress,
    session::FoundModel,
    study::{LayerList, Ready, StudyArgs, StudyRecord, StudyTimings, keyed, missing},
    units::Units,
};

/// Put one concept's mean activations in place of another's, and measure what becomes of the music
///
/// One intervention is one site in one layer, changed at every step. Effects are log odds of the judge's probabilities, as
/// published: how far the music moves from the original concept to the desired one.
#[derive(Debug, clap::Args)]
pub(crate) struct InterveneArgs {
    /// Original concept: a name, or a file of prompts, with the class that stands for it as `FILE=CLASS`
    #[arg(long, value_name = "CONCEPT")]
    from: Option<String>,
    /// Desired concept, likewise
    #[arg(long, value_name = "CONCEPT")]
    to: Option<String>,
    /// Every ordered pair of the concepts
    #[arg(long, conflicts_with_all = ["from", "to"])]
    all_pairs: bool,
    #[command(flatten)]
    concepts: ConceptArgs,
    /// Intervene on this prompt instead of the original concept's; several times for several
    #[arg(long, value_name = "TEXT")]
    prompt: Vec<String>,
    /// `replace` by the desired concept's mean, or `adjust` by the difference of the means
    #[arg(long, value_name = "TECHNIQUE", value_delimiter = ',', default_values_t = ["replace".to_owned(), "adjust".to_owned()])]
    technique: Vec<String>,
    /// Sites, such as `mlp_out`, or `self_attn.z` for every head by itself
    #[arg(long, value_delimiter = ',', default_values_t = ["self_attn_out".to_owned(), "cross_attn_out".to_owned(), "mlp_out".to_owned()])]
    sites: Vec<String>,
    /// Layers, from 0: `all`, or numbers and ranges such as `0,12,20..24`, which ends before 24
    #[arg(long, default_value = "all")]
    layers: LayerList,
    /// Half of the guidance batch that is changed
    #[arg(long, value_enum, default_value_t = BranchChoice::Cond)]
    branch: BranchChoice,
    /// Tokens that an intervened row sees next
    #[arg(long, value_enum, default_value_t = FeedChoice::Clean)]
    feed: FeedChoice,
    /// Strength; 1 is the published one
    #[arg(long, default_value_t = 1.0, allow_negative_numbers = true)]
    scale: f64,
    /// Generation steps in which the change acts, such as `50..100` [default: all]
    #[arg(long, value_name = "RANGE", value_parser = parse_steps)]
    steps: Option<Range<usize>>,
    /// Random directions of the same norm, for each intervention
    #[arg(long, value_name = "K", default_value_t = 0)]
    controls: usize,
    /// Keep the audio of the K most and least effective interventions on each prompt
    #[arg(long, value_name = "K", default_value_t = 0)]
    save_extremes: usize,
    /// Save the difference of the means as edits that `generate --edit` applies: `edits/FROM_to_TO.safetensors`
    #[arg(long)]
    save_edits: bool,
    /// Folder of mean activations, to be shared by several runs [default: `means` inside `--out`]
    #[arg(long, value_name = "FOLDER")]
    means: Option<PathBuf>,
    /// Interventions that are computed together
    #[arg(long, value_name = "N", default_value_t = 48)]
    rows: usize,
    #[command(flatten)]
    judge: JudgeArgs,
    #[command(flatten)]
    study: StudyArgs,
}

/// Half of the guidance batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum BranchChoice {
    /// The one that sees the prompt: the published way
    Cond,
    /// The one that does not
    Uncond,
    /// Both
    Both,
}

/// Which tokens a row sees next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum FeedChoice {
    /// Its own: it goes on freely
    Own,
    /// Those of the run without intervention
    Clean,
    /// The conditional half sees those of the first of 48 rows, as the published code has it
    Published,
}

fn parse_steps(text: &str) -> Result<Range<usize>, String> {
    let range = text.split_once("..").and_then(|(start, end)| Some(start.parse().ok()?..end.parse().ok()?));
    range.filter(|range| !range.is_empty()).ok_or_else(|| "steps look like `50..100`, the end not included".to_owned())
}

#[expect(clippy::too_many_lines, reason = "the steps of the command, one after the other")]
pub(crate) fn run(args: &InterveneArgs, out: &mut dyn Write) -> Result<()> {
    args.check()?;
    let set = args.concepts.set()?;
    interrupt::listen();
    let found = args.study.model.find()?;
    let how = args.study.sampling.generate(args.study.duration, &found)?;
    let config = &found.files.config.decoder;
    let layers = args.layers.expand(0..config.num_hidden_layers)?;
    if args.branch != BranchChoice::Cond && how.guidance == 1.0 {
        return Err(Misuse::new("without guidance there is no unconditional half to change").into());
    }
    let judge = args.judge.find()?;
    let (concepts, pairs) = args.pairs(&set, &judge.labels)?;
    let mut plan = InterventionPlan {
        command: InterventionPlan::COMMAND.to_owned(),
        basis: crate::study::Basis {
            model: vec![],
            layers: config.num_hidden_layers,
            width: config.hidden_size,
            judge: None,
            dtype: String::new(),
            weights: String::new(),
            frames: how.frames,
            frame_rate: found.files.config.audio_encoder.frame_rate(),
            guidance: how.guidance,
            sampling: how.sampling,
        },
        techniques: args.techniques()?,
        sites: args.sites.clone(),
        layers,
        heads: config.num_attention_heads,
        branch: match args.branch {
            BranchChoice::Cond => Some(Branch::Cond),
            BranchChoice::Uncond => Some(Branch::Uncond),
            BranchChoice::Both => None,
        },
        feed: match args.feed {
            FeedChoice::Own => Feed::Own,
            FeedChoice::Clean => Feed::Clean,
            FeedChoice::Published => Feed::Published,
        },
        scale: args.scale,
        steps: args.steps.clone(),
        controls: args.controls,
        seed: args.study.sampling.seed,
        concepts,
        pairs,
        prompts: if args.prompt.is_empty() { None } else { Some(args.prompt.clone()) },
        extremes: args.save_extremes,
        tokens: args.study.tokens,
    };
    for site in &plan.sites {
        site.parse::<Site>().map_err(|error| Misuse::new(error.to_string()))?;
    }
    let places = plan.places()?;
    let prompts = keyed_prompts(&found, &plan)?;
    let units = plan.units();
    if args.study.dry_run {
        writeln!(
            out,
            "would make {} interventions ({} places, {} techniques, {} controls each) on {} prompts of {} pairs with `{}` \
             into `{}`",
            units.len() * plan.techniques.len() * places.len() * (1 + plan.controls),
            places.len(),
            plan.techniques.len(),
            plan.controls,
            units.len(),
            plan.pairs.len(),
            args.study.model.model,
            args.study.out.display()
        )?;
        return Ok(());
    }
    let folder = OutputFolder::open(&args.study.out)?;
    let started = Instant::now();
    let opened = args.study.device.open()?;
    let mut ready = args.study.load(found, &opened, &how)?;
    ready.basis.judge = Some(judge.sha256()?);
    plan.basis = ready.basis.clone();
    let judge = judge.load(opened.placement.clone())?;
    let mut timings = StudyTimings { load_s: started.elapsed().as_secs_f64(), ..StudyTimings::default() };
    let kept = Units::open(&folder, &serde_json::to_value(&plan)?, args.study.overwrite)?;
    let share = args.study.job.job()?.share(units.len(), "prompts of pairs");
    let todo: Vec<Unit> = units[share].iter().copied().filter(|&unit| !kept.has(&plan.name(unit))).collect();
    let means = args.means(&ready, &plan, &prompts, &todo, &folder)?;
    if args.save_edits {
        directions::write(&plan, &means, &folder)?;
    }
    let worker = Worker {
        model: &ready.loaded.model,
        plan: &plan,
        places: &places,
        judge: &judge,
        folder: &folder,
        rows: args.rows,
    };
    let generating = work(&worker, &kept, &todo, &prompts, &means, &mut timings)?;
    let interventions = todo.len() * plan.techniques.len() * places.len() * (1 + plan.controls);
    if interventions > 0 {
        timings.generate_s = Some(generating);
        timings.interventions_per_minute = Some(interventions as f64 / (timings.units_s / 60.0));
    }
    let settings = plan.settings();
    let record = StudyRecord {
        command: InterventionPlan::COMMAND,
        version: env!("CARGO_PKG_VERSION"),
        provenance: &ready.provenance,
        device: &ready.device,
        settings: &settings,
        timings,
    };
    record.write(&folder)?;
    let (first, count) = missing(&kept, units.iter().map(|&unit| plan.name(unit)));
    if let Some(first) = first {
        writeln!(
            out,
            "{count} of {} prompts of pairs are not done yet, `{first}` being the first; run the other jobs, then \
             `tonoscope merge {}`",
            units.len(),
            args.study.out.display()
        )?;
        return Ok(());
    }
    finish(&plan, &kept, &folder, args.study.json, out)
}

/// The prompts that are intervened on, by original concept, and those that means are taken over, by concept.
struct Prompts {
    intervened: BTreeMap<usize, Vec<Prompt>>,
    averaged: Vec<Vec<Prompt>>,
}

fn keyed_prompts(found: &FoundModel, plan: &InterventionPlan) -> Result<Prompts> {
    let keyed = |texts: &[String]| texts.iter().map(|text| keyed(found, text)).collect::<Result<Vec<Prompt>>>();
    let averaged = plan.concepts.iter().map(|concept| keyed(&concept.prompts)).collect::<Result<Vec<_>>>()?;
    let originals = plan.pairs.iter().map(|pair| pair.0);
    let intervened =
        originals.map(|original| Ok((original, keyed(plan.intervened(original))?))).collect::<Result<_>>()?;
    Ok(Prompts { intervened, averaged })
}

/// Does what is to be done; returns the seconds that went into generating.
fn work(
    worker: &Worker<'_>,
    kept: &Units,
    todo: &[Unit],
    prompts: &Prompts,
    means: &BTreeMap<usize, Means>,
    timings: &mut StudyTimings,
) -> Result<f64> {
    let plan = worker.plan;
    let experiment = plan.experiment(plan.techniques[0])?;
    let batches = experiment.rows().div_ceil(worker.rows).max(1) * plan.techniques.len();
    let per_unit = (batches * worker.steps()) as u64;
    let bar = progress::steps(todo.len() as u64 * per_unit, "intervening".to_owned(), "steps");
    let started = Instant::now();
    let mut generating = 0.0;
    for (done, &unit) in todo.iter().enumerate() {
        let prompt = &prompts.intervened[&unit.pair.0][unit.prompt];
        let clean_name = plan.clean_name(unit);
        if !kept.has(&clean_name) {
            let clean = worker.clean(unit, prompt, &mut |_| interrupt::check())?;
            kept.write(&clean_name, &serde_json::to_vec(&clean)?)?;
        }
        let clean: CleanUnit = serde_json::from_slice(&kept.read(&clean_name)?)
            .with_context(|| format!("unit `{clean_name}` is damaged"))?;
        let mut ticks = done as u64 * per_unit;
        let both = [&means[&unit.pair.0], &means[&unit.pair.1]];
        let (made, seconds) = worker.pair(unit, prompt, &clean, both, &mut || {
            ticks += 1;
            bar.set_position(ticks);
            interrupt::check()
        })?;
        generating += seconds;
        kept.write(&plan.name(unit), &unit::to_bytes(&made)?)?;
        timings.units_made += 1;
    }
    bar.finish_and_clear();
    timings.units_s = started.elapsed().as_secs_f64();
    Ok(generating)
}

impl InterveneArgs {
    fn check(&self) -> Result<()> {
        self.study.sampling.check(self.study.duration)?;
        if !self.all_pairs && (self.from.is_none() || self.to.is_none()) {
            let misuse = Misuse::new("no pair of concepts");
            return Err(misuse.hint("give one with `--from` and `--to`, or take `--all-pairs`").into());
        }
        if self.rows == 0 {
            return Err(Misuse::new("0 rows, expected 1 or more").into());
        }
        if !self.scale.is_finite() {
            return Err(Misuse::new("a scale that is not a number").into());
        }
        Ok(())
    }

    fn techniques(&self) -> Result<Vec<Technique>, Misuse> {
        let mut techniques = vec![];
        for name in &self.technique {
            let technique = match name.as_str() {
                "replace" => Technique::Replace,
                "adjust" => Technique::Adjust,
                _ => return Err(Misuse::new(format!("no technique `{name}`; there are `replace` and `adjust`"))),
            };
            if !techniques.contains(&technique) {
                techniques.push(technique);
            }
        }
        Ok(techniques)
    }

    /// The concepts that take part, and the pairs.
    #[expect(clippy::type_complexity, reason = "concepts, and pairs of their indices")]
    fn pairs(&self, set: &ConceptSet, labels: &Labels) -> Result<(Vec<PlannedConcept>, Vec<(usize, usize)>)> {
        if self.all_pairs {
            let concepts: Vec<PlannedConcept> = self
                .concepts
                .prompts(set)?
                .into_iter()
                .map(|(concept, prompts)| planned(concept, prompts, labels))
                .collect::<Result<_>>()?;
            let indices = 0..concepts.len();
            let pairs = indices.clone().flat_map(|from| indices.clone().map(move |to| (from, to)));
            let pairs: Vec<(usize, usize)> = pairs.filter(|(from, to)| from != to).collect();
            if pairs.is_empty() {
                return Err(Misuse::new("one concept makes no pair").into());
            }
            return Ok((concepts, pairs));
        }
        let (Some(from), Some(to)) = (&self.from, &self.to) else { unreachable!("`check` has asked for both") };
        let concepts = vec![self.concept(set, labels, from)?, self.concept(set, labels, to)?];
        if concepts[0].name == concepts[1].name {
            return Err(Misuse::new(format!("`{from}` cannot be both the original and the desired concept")).into());
        }
        Ok((concepts, vec![(0, 1)]))
    }

    /// A concept by name, or from a file of prompts.
    fn concept(&self, set: &ConceptSet, labels: &Labels, name: &str) -> Result<PlannedConcept> {
        let (path, class) = name.split_once('=').map_or((name, None), |(path, class)| (path, Some(class)));
        let path = std::path::Path::new(path);
        if set.concepts.iter().any(|concept| concept.name == name) || !path.is_file() {
            let concept = set.concept(name)?;
            return planned(concept, set.prompts(concept, self.concepts.prompts_per_concept)?, labels);
        }
        let bytes = std::fs::read(path).with_context(|| format!("cannot read `{}`", path.display()))?;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let prompts: Vec<String> = lines.take(self.concepts.prompts_per_concept).map(str::to_owned).collect();
        if prompts.is_empty() {
            return Err(Misuse::new(format!("`{}` holds no prompt", path.display())).into());
        }
        let stem = path.file_stem().map_or_else(|| name.to_owned(), |stem| stem.to_string_lossy().into_owned());
        Ok(PlannedConcept {
            name: stem,
            category: String::new(),
            class: class.map(|class| labels.index_of(class)).transpose()?,
            published: None,
            prompts,
        })
    }

    /// The means of every concept that `todo` needs: read if they are there, else taken.
    fn means(
        &self,
        ready: &Ready,
        plan: &InterventionPlan,
        prompts: &Prompts,
        todo: &[Unit],
        folder: &OutputFolder,
    ) -> Result<BTreeMap<usize, Means>> {
        let at = self.means.clone().unwrap_or_else(|| folder.path().join("means"));
        if at.is_dir() {
            // A folder of several runs: those beside us may be writing into it.
            OutputFolder::existing(&at).tidy()?;
        }
        let model = &ready.loaded.model;
        let device = model.device();
        let points: Vec<_> = {
            let mut points: Vec<_> =
                plan.places()?.into_iter().map(tonoscope_core::interventions::Place::point).collect();
            points.sort();
            points.dedup();
            points
        };
        let mut means = BTreeMap::new();
        for (index, concept) in plan.concepts.iter().enumerate() {
            let needed = todo.iter().any(|unit| unit.pair.0 == index || unit.pair.1 == index);
            if !needed && !self.save_edits {
                continue;
            }
            let key = plan.means_key(concept);
            let name = format!("{}.safetensors", file_name(&concept.name));
            let path = at.join(&name);
            if path.is_file() && !self.study.overwrite {
                let bytes = std::fs::read(&path).with_context(|| format!("cannot read `{}`", path.display()))?;
                let read = Means::from_bytes(&path.to_string_lossy(), bytes, &key, &device);
                means.insert(index, read?);
                continue;
            }
            let bar = progress::steps(0, format!("averaging {}", concept.name), "steps");
            let how = plan.basis.generate();
            let mut watch = |progress: tonoscope_core::models::musicgen::Progress| {
                bar.set_length(progress.total as u64);
                bar.set_position(progress.done as u64);
                interrupt::check()
            };
            let batch = (self.rows / 2).max(1);
            let taken = Means::collect(model, &prompts.averaged[index], &points, &how, batch, &mut watch);
            let taken = pollster::block_on(taken).map_err(|error| interrupted(error.into()))?;
            bar.finish_and_clear();
            let bytes = pollster::block_on(taken.to_bytes(&key))?;
            OutputFolder::open(&at)?.write(&name, &bytes)?;
            means.insert(index, taken);
        }
        Ok(means)
    }
}

fn planned(concept: &Concept, prompts: Vec<String>, labels: &Labels) -> Result<PlannedConcept> {
    Ok(PlannedConcept {
        name: concept.name.clone(),
        category: concept.slot.clone(),
        class: Some(concept.class(Indices::ByLabel, labels)?),
        published: concept.index.filter(|&index| index < labels.len()),
        prompts,
    })
}
