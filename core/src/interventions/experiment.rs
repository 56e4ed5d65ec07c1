//! Many interventions on one prompt, as rows of shared batches.

use std::{
    collections::BTreeMap,
    fmt,
    ops::{ControlFlow, Range},
};

use serde::{Deserialize, Serialize};

use super::{MeanActivations, MeansError, control::random_direction, means::difference};
use crate::{
    hooks::{Axis, Branch, Change, Edit, EditTensors, HookError, HookPoint, Hooks, Scope, Selector, Site, Spec, Value},
    models::musicgen::{Generate, GenerateError, MusicGen, Progress, RowSharing, Sequence, SequenceKey, Text},
};

/// Rows of a batch in the published code; row 0 of each feeds the others.
pub const PUBLISHED_ROWS: usize = 48;

/// How a concept's means are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Technique {
    /// The desired concept's mean stands in place of the activation.
    Replace,
    /// The difference of the means, desired minus original, is added to the activation.
    Adjust,
}

/// Which tokens an intervened row sees next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Feed {
    /// Its own: it goes on freely.
    Own,
    /// Those of the run without intervention: every step is judged alone.
    Clean,
    /// As the published code does: the conditional half of all rows of a batch sees the tokens of its first row, itself
    /// intervened on; the unconditional half sees each row's own.
    Published,
}

/// Where one intervention acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Which tensor.
    pub site: Site,
    /// In which layer, from 0.
    pub layer: usize,
    /// In which head alone, for sites that have heads.
    pub head: Option<usize>,
}

impl Place {
    /// The hook point.
    pub fn point(self) -> HookPoint {
        self.site.of(self.layer)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.point().fmt(f)?;
        self.head.map_or(Ok(()), |head| write!(f, "[{head}]"))
    }
}

/// Every one of `sites` in every one of `layers`, in the published order: all layers of the first site, then the next.
/// A site with heads gives one place per head.
///
/// # Errors
/// [`InterventionError::Site`] for a site that is not in a layer or whose width grows with time.
pub fn places(sites: &[Site], layers: &[usize], heads: usize) -> Result<Vec<Place>, InterventionError> {
    let mut all = vec![];
    for &site in sites {
        let grows = site.is_pattern();
        // Keys and values of the text are computed once, not at every step.
        let of_text = site.is_of_other_sequence();
        if !site.is_layered() || grows || of_text {
            return Err(InterventionError::Site { site });
        }
        for &layer in layers {
            match site.head_axis() {
                Some(_) => all.extend((0..heads).map(|head| Place { site, layer, head: Some(head) })),
                None => all.push(Place { site, layer, head: None }),
            }
        }
    }
    Ok(all)
}

/// Interventions that cannot be carried out.
#[derive(Debug, thiserror::Error)]
pub enum InterventionError {
    /// A site without a mean per step.
    #[error("`{site}` cannot be intervened on: it has no mean per generation step in a layer")]
    Site {
        /// The site.
        site: Site,
    },
    /// The generation failed.
    #[error(transparent)]
    Generate(#[from] GenerateError),
    /// An edit does not fit.
    #[error(transparent)]
    Hook(#[from] HookError),
    /// A mean is missing.
    #[error(transparent)]
    Means(#[from] MeansError),
}

/// What is done at each place, one place per row.
#[derive(Debug, Clone)]
pub struct Experiment {
    /// How the means are used.
    pub technique: Technique,
    /// Where: one intervention each.
    pub places: Vec<Place>,
    /// Which half of the guidance batch is changed; `None`: both.
    pub branch: Option<Branch>,
    /// Which tokens a row sees next.
    pub feed: Feed,
    /// Strength; 0 changes nothing, 1 is the published one.
    pub scale: f64,
    /// Generation steps in which the change acts; `None`: all.
    pub steps: Option<Range<usize>>,
    /// Random directions of the same norm per place.
    pub controls: usize,
    /// Seed of the random directions.
    pub seed: u64,
    /// Rows of a published batch: [`PUBLISHED_ROWS`].
    pub published_rows: usize,
}

/// Codes `[codebook][frame]` of all rows of an experiment on one prompt.
#[derive(Debug, Clone, Default)]
pub struct Rows {
    /// Without intervention.
    pub clean: Vec<Vec<u32>>,
    /// With a scale of 0: equal to `clean`, or rows disturb each other.
    pub scale_zero: Vec<Vec<u32>>,
    /// One per place.
    pub changed: Vec<Vec<Vec<u32>>>,
    /// One per place and control, place after place.
    pub random: Vec<Vec<Vec<u32>>>,
}

/// One row that is to come.
enum Job {
    Place(usize),
    Random(usize, usize),
}

impl Experiment {
    /// Sequences that one prompt takes, those of the controls included.
    pub fn rows(&self) -> usize {
        self.places.len() * (1 + self.controls)
    }

    /// Carries out every intervention on the only text in `text`, at most `rows_at_once` together.
    ///
    /// All rows share the text and the random numbers of `key`. With [`Feed::Clean`], a row is computed from the layer on
    /// in which it is changed, in the half that is changed; below and beside, the clean run stands for it.
    ///
    /// # Errors
    /// [`InterventionError`].
    ///
    /// # Panics
    /// If `text` holds several.
    #[expect(clippy::too_many_arguments, reason = "what is changed, by what, and how it is generated")]
    pub async fn run(
        &self,
        model: &MusicGen,
        text: &Text,
        key: &SequenceKey,
        [original, desired]: [&MeanActivations; 2],
        how: &Generate,
        rows_at_once: usize,
        watch: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Rows, InterventionError> {
        assert_eq!(text.mask.len(), 1, "one text at a time");
        let places = 0..self.places.len();
        let random = places.clone().flat_map(|place| (0..self.controls).map(move |index| Job::Random(place, index)));
        let jobs: Vec<Job> = places.map(Job::Place).chain(random).collect();
        let most = match self.feed {
            // A published batch is not torn apart.
            Feed::Published => (rows_at_once / self.published_rows).max(1) * self.published_rows,
            Feed::Own | Feed::Clean => rows_at_once.max(1),
        };
        let values = Values::new(self, original, desired)?;
        let mut rows = Rows::default();
        let batches = jobs.len().div_ceil(most).max(1);
        let mut chunks = jobs.chunks(most);
        for batch in 0..batches {
            let jobs = chunks.next().unwrap_or_default();
            let mut watch = |progress: Progress| {
                let (done, total) = (batch * progress.total + progress.done, batches * progress.total);
                watch(Progress { done, total })
            };
            let layers = model.config().decoder.num_hidden_layers;
            let (sequences, spec, tensors) = self.batch(jobs, &values, key, layers);
            let mut hooks = Hooks::new(&spec, &model.points(), &tensors)?;
            let made = model.generate_sequences(&mut hooks, text, &sequences, how, &mut watch).await?;
            hooks.finish()?;
            let mut codes = made.codes.into_iter();
            rows.clean = codes.next().unwrap_or_default();
            rows.scale_zero = codes.next().unwrap_or_default();
            for (job, codes) in jobs.iter().zip(codes) {
                match job {
                    Job::Place(_) => rows.changed.push(codes),
                    Job::Random(..) => rows.random.push(codes),
                }
            }
        }
        Ok(rows)
    }

    /// Sequence 0 is the clean run, sequence 1 the one of scale 0, the others are `jobs`.
    fn batch(
        &self,
        jobs: &[Job],
        values: &Values,
        key: &SequenceKey,
        layers: usize,
    ) -> (Vec<Sequence>, Spec, EditTensors) {
        const FIRST: usize = 2;
        let alone = |index: usize| RowSharing { text: 0, ..RowSharing::alone(index, layers) };
        let zero = match self.feed {
            // Its row is computed in full, so that it says something.
            Feed::Clean => RowSharing { tokens_from: [0, 0], ..alone(1) },
            Feed::Own | Feed::Published => alone(1),
        };
        let mut lanes = vec![alone(0), zero];
        let mut edits = vec![];
        let mut tensors = EditTensors::new();
        for (number, job) in jobs.iter().enumerate() {
            let index = FIRST + number;
            let (Job::Place(place) | Job::Random(place, _)) = *job;
            let place = self.places[place];
            let touched = |branch: Branch| self.branch.is_none_or(|only| only == branch);
            let diverges_at = |branch| if touched(branch) { place.layer } else { layers };
            lanes.push(match self.feed {
                Feed::Own => alone(index),
                Feed::Clean => RowSharing {
                    tokens_from: [0, 0],
                    diverges_at: [diverges_at(Branch::Cond), diverges_at(Branch::Uncond)],
                    ..alone(index)
                },
                Feed::Published => {
                    let first = FIRST + number / self.published_rows * self.published_rows;
                    RowSharing { tokens_from: [first, index], ..alone(index) }
                }
            });
            let (name, tensor) = values.of(job, place);
            let axes = [Axis::Branch, Axis::Step, Axis::Head, Axis::Feature];
            let axes = if tensor.dims()[1] == 1 { axes[1..].to_vec() } else { axes.to_vec() };
            let value = Value { tensor: name.clone(), axes };
            tensors.insert(name, tensor);
            let scope = Scope {
                steps: self.steps.clone(),
                prompts: Some(vec![index]),
                branch: self.branch,
                heads: place.head.map(|head| vec![head]),
                positions: None,
            };
            let edit = |change| Edit { points: Selector::point(place.point()), scope: scope.clone(), change };
            edits.extend(self.changes(value).into_iter().map(edit));
        }
        let sequence = |lane| Sequence { lane, key: key.clone(), start: vec![] };
        (lanes.into_iter().map(sequence).collect(), Spec { captures: vec![], edits }, tensors)
    }

    /// `x + scale · value`, or `x + scale · (value − x)`.
    #[expect(clippy::float_cmp, reason = "0 and 1 are meant exactly")]
    pub fn changes(&self, value: Value) -> Vec<Change> {
        match self.technique {
            _ if self.scale == 0.0 => vec![],
            Technique::Replace if self.scale == 1.0 => vec![Change::Replace { value }],
            Technique::Replace => {
                vec![Change::Scale { factor: 1.0 - self.scale }, Change::Add { value, scale: self.scale }]
            }
            Technique::Adjust => vec![Change::Add { value, scale: self.scale }],
        }
    }
}

/// What each place is changed by, `[1, branch, step, head, feature]`.
struct Values {
    concept: BTreeMap<HookPoint, burn::tensor::Tensor<5>>,
    seed: u64,
}

impl Values {
    fn new(
        experiment: &Experiment,
        original: &MeanActivations,
        desired: &MeanActivations,
    ) -> Result<Self, InterventionError> {
        let difference = difference(desired, original);
        let means = match experiment.technique {
            Technique::Replace => desired,
            Technique::Adjust => &difference,
        };
        let mut concept = BTreeMap::new();
        for place in &experiment.places {
            let [branches, _, steps, heads, features] = means.at(place.point())?.dims();
            let mean = means.at(place.point())?.clone();
            concept.insert(place.point(), mean.reshape([1, branches, steps, heads, features]));
        }
        Ok(Self { concept, seed: experiment.seed })
    }

    fn of(&self, job: &Job, place: Place) -> (String, burn::tensor::Tensor<5>) {
        let point = place.point();
        let concept = &self.concept[&point];
        match job {
            Job::Place(_) => (point.to_string(), concept.clone()),
            Job::Random(_, index) => {
                (format!("random.{index}.{point}"), random_direction(concept, self.seed, &format!("{place}.{index}")))
            }
        }
    }
}
