//! What all prompts of a pair say about an intervention, and all pairs of two categories.

use std::collections::BTreeMap;

use serde::Serialize;
use tonoscope_core::{
    interventions::{Place, Technique},
    metrics::{Effect, Interval, log_odds_effect, mean_interval},
};

use super::super::plan::{InterventionPlan, technique_name};

/// Resamples and seed of the bootstrap intervals.
const BOOTSTRAP: (usize, u64) = (2000, 42);

/// One intervention over the prompts of a pair.
#[derive(Debug, Clone, Serialize)]
pub(in super::super) struct Summary {
    pub(in super::super) from: String,
    pub(in super::super) to: String,
    pub(in super::super) from_category: String,
    pub(in super::super) to_category: String,
    pub(in super::super) technique: &'static str,
    pub(in super::super) site: String,
    pub(in super::super) layer: usize,
    pub(in super::super) head: Option<usize>,
    pub(in super::super) prompts: usize,
    pub(in super::super) effect: Option<f64>,
    pub(in super::super) effect_low: Option<f64>,
    pub(in super::super) effect_high: Option<f64>,
    pub(in super::super) effect_original: Option<f64>,
    pub(in super::super) effect_desired: Option<f64>,
    /// `−KL`
    pub(in super::super) precision: f64,
    /// Ends of intervals are `None` of one prompt, which says nothing of others.
    pub(in super::super) precision_low: Option<f64>,
    pub(in super::super) precision_high: Option<f64>,
    /// Mean effect of random directions of the same norm.
    pub(in super::super) random_effect: Option<f64>,
    pub(in super::super) random_low: Option<f64>,
    pub(in super::super) random_high: Option<f64>,
    /// `−KL` of random directions of the same norm.
    pub(in super::super) random_precision: Option<f64>,
    /// Mean effect when the classes of another pair are compared.
    pub(in super::super) permuted_effect: Option<f64>,
    /// Share of those pairs, this one counted, whose effect is at least as large.
    pub(in super::super) permutation_p: Option<f64>,
    /// Mean effect by the second judge.
    pub(in super::super) second_effect: Option<f64>,
    pub(in super::super) second_low: Option<f64>,
    pub(in super::super) second_high: Option<f64>,
    /// Mean effect of random directions of the same norm, by the second judge.
    pub(in super::super) second_random_effect: Option<f64>,
}

/// Means over all pairs of two categories.
#[derive(Debug, Clone, Serialize)]
pub(super) struct CategoryRow {
    technique: &'static str,
    from_category: String,
    to_category: String,
    within: bool,
    site: String,
    pairs: usize,
    effect: f64,
    effect_low: Option<f64>,
    effect_high: Option<f64>,
    effect_original: f64,
    effect_desired: f64,
    precision: f64,
}

/// What all prompts say about one intervention of a pair.
#[derive(Default)]
pub(super) struct Gathered {
    pub(super) effects: Vec<Effect>,
    pub(super) kl: Vec<f64>,
    pub(super) random: Vec<f64>,
    pub(super) random_kl: Vec<f64>,
    /// Sum over prompts of the effect for the classes of every other ordered pair.
    permuted: Vec<f64>,
    /// By the second judge.
    pub(super) second: Vec<f64>,
    pub(super) second_random: Vec<f64>,
}

pub(super) fn mean(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let count = values.len() as f64;
    values.sum::<f64>() / count
}

pub(super) fn classes(original: Option<usize>, desired: Option<usize>) -> Option<(usize, usize)> {
    Some((original?, desired?))
}

impl Gathered {
    /// Adds the effect for the classes of every ordered pair of concepts but this one.
    pub(super) fn permute(&mut self, plan: &InterventionPlan, pair: (usize, usize), before: &[f64], after: &[f64]) {
        let all = 0..plan.concepts.len();
        let pairs = all.clone().flat_map(|from| all.clone().map(move |to| (from, to)));
        let others = pairs.filter(|&other| other.0 != other.1 && other != pair);
        let effects: Vec<f64> = others
            .filter_map(|(from, to)| classes(plan.concepts[from].class, plan.concepts[to].class))
            .map(|(a, b)| log_odds_effect(before, after, a, b).total())
            .collect();
        self.permuted.resize(effects.len(), 0.0);
        self.permuted.iter_mut().zip(effects).for_each(|(sum, effect)| *sum += effect);
    }

    pub(super) fn summary(
        &self,
        plan: &InterventionPlan,
        pair: (usize, usize),
        technique: Technique,
        place: Place,
    ) -> Summary {
        let (from, to) = (&plan.concepts[pair.0], &plan.concepts[pair.1]);
        let interval = |values: &[f64]| mean_interval(values, 0.95, BOOTSTRAP.0, BOOTSTRAP.1);
        let totals: Vec<f64> = self.effects.iter().map(|effect| effect.total()).collect();
        let effect = interval(&totals);
        let precisions: Vec<f64> = self.kl.iter().map(|kl| -kl).collect();
        let nan = Interval { low: None, mean: f64::NAN, high: None };
        let precision = interval(&precisions).unwrap_or(nan);
        let random = interval(&self.random);
        let permuted: Vec<f64> = self.permuted.iter().map(|sum| sum / totals.len() as f64).collect();
        let second = interval(&self.second);
        let above = |effect: f64| permuted.iter().filter(|&&other| other >= effect).count();
        Summary {
            from: from.name.clone(),
            to: to.name.clone(),
            from_category: from.category.clone(),
            to_category: to.category.clone(),
            technique: technique_name(technique),
            site: place.site.to_string(),
            layer: place.layer,
            head: place.head,
            prompts: self.kl.len(),
            effect: effect.map(|of| of.mean),
            effect_low: effect.and_then(|of| of.low),
            effect_high: effect.and_then(|of| of.high),
            effect_original: effect.map(|_| mean(self.effects.iter().map(|effect| effect.original))),
            effect_desired: effect.map(|_| mean(self.effects.iter().map(|effect| effect.desired))),
            precision: precision.mean,
            precision_low: precision.low,
            precision_high: precision.high,
            random_effect: random.map(|of| of.mean),
            random_low: random.and_then(|of| of.low),
            random_high: random.and_then(|of| of.high),
            random_precision: random.map(|_| -mean(self.random_kl.iter().copied())),
            permuted_effect: (!permuted.is_empty()).then(|| mean(permuted.iter().copied())),
            permutation_p: effect
                .filter(|_| !permuted.is_empty())
                .map(|of| (above(of.mean) + 1) as f64 / (permuted.len() + 1) as f64),
            second_effect: second.map(|of| of.mean),
            second_low: second.and_then(|of| of.low),
            second_high: second.and_then(|of| of.high),
            second_random_effect: (!self.second_random.is_empty()).then(|| mean(self.second_random.iter().copied())),
        }
    }
}

/// Means over the pairs of two categories, all sites together and each by itself; the interval is over pairs and layers.
pub(super) fn categories(summaries: &[Summary]) -> Vec<CategoryRow> {
    let mut groups: BTreeMap<(&str, &str, &str, &str), Vec<&Summary>> = BTreeMap::new();
    for summary in summaries.iter().filter(|of| of.effect.is_some()) {
        for site in ["all", summary.site.as_str()] {
            let key = (summary.technique, summary.from_category.as_str(), summary.to_category.as_str(), site);
            groups.entry(key).or_default().push(summary);
        }
    }
    let of = |((_, from, to, site), members): ((&str, &str, &str, &str), Vec<&Summary>)| {
        let effects: Vec<f64> = members.iter().filter_map(|of| of.effect).collect();
        let effect = mean_interval(&effects, 0.95, BOOTSTRAP.0, BOOTSTRAP.1)?;
        let part = |part: fn(&Summary) -> Option<f64>| mean(members.iter().map(|of| part(of).unwrap_or(f64::NAN)));
        let mut pairs: Vec<(&str, &str)> = members.iter().map(|of| (of.from.as_str(), of.to.as_str())).collect();
        pairs.sort_unstable();
        pairs.dedup();
        Some(CategoryRow {
            technique: members[0].technique,
            from_category: from.to_owned(),
            to_category: to.to_owned(),
            within: from == to,
            site: site.to_owned(),
            pairs: pairs.len(),
            effect: effect.mean,
            effect_low: effect.low,
            effect_high: effect.high,
            effect_original: part(|of| of.effect_original),
            effect_desired: part(|of| of.effect_desired),
            precision: mean(members.iter().map(|of| of.precision)),
        })
    };
    groups.into_iter().filter_map(of).collect()
}
