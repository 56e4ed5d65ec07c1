//! What interventions do to models of different sizes, in one figure.

use std::{collections::BTreeSet, path::Path};

use anyhow::{Context, Result, ensure};

use super::folder::{Run, read_inside};
use crate::{
    effect_precision::{Measured, plot, points},
    figures::{Figure, distinct},
};

/// Name of the figure's files. Beside a page that lies in one of the folders, they lie among that folder's own figures.
pub(super) const NAME: &str = "effect_precision_by_size";
const SUMMARY: &str = "summary.csv";
/// Names in a summary: there are two techniques, and some twenty sites.
const MOST_TECHNIQUES: usize = 8;
const MOST_SITES: usize = 64;
const LONGEST_NAME: usize = 100;
/// Largest effect or precision: log odds and nats of probabilities in 32 bits stay far below.
const LARGEST: f64 = 1e6;

/// Interventions on one model.
struct Sized {
    /// The run's folder.
    name: String,
    /// As `run.json` says it.
    model: String,
    /// Layers and width; the model's name in folders of versions that did not say them.
    size: String,
    measured: Vec<Measured>,
}

/// The figure, if `runs`, which lie in `folders`, hold interventions on different models. A run whose summary cannot be read
/// is left out and says so.
///
/// # Errors
/// If it cannot be drawn.
pub(super) fn figure(runs: &mut [Run], folders: &[impl AsRef<Path>]) -> Result<Option<Figure>> {
    let mut all: Vec<Sized> = vec![];
    for (run, folder) in runs.iter_mut().zip(folders) {
        let path = folder.as_ref().join(SUMMARY);
        if run.command() != "intervene" || !path.is_file() {
            continue;
        }
        match read(folder.as_ref(), &path) {
            Ok(measured) if measured.iter().any(|of| of.effect.is_some()) => all.push(Sized::new(run, measured)),
            Ok(_) => {}
            Err(error) => run.notices.push(format!("left out of the figure of all models: {error:#}")),
        }
    }
    let models = all.iter().map(|of| (&of.size, &of.model)).collect::<std::collections::BTreeSet<_>>();
    if models.len() < 2 {
        return Ok(None);
    }
    let points = all.iter().flat_map(|of| points(&of.marked(&all), &of.measured)).collect();
    let sizes = distinct(all.iter().map(|of| of.size.as_str())).join("; ");
    let caption = format!(
        "Effect against precision of interventions by model size ({sizes}): each technique at each site, means over pairs and \
         layers, with 95 % bootstrap intervals."
    );
    plot(NAME, caption, points).draw().map(Some)
}

impl Sized {
    fn new(run: &Run, measured: Vec<Measured>) -> Self {
        let number = |name: &str| run.record.get("settings")?.get(name)?.as_u64();
        let model = run.record.get("model").and_then(|model| model.as_str()).unwrap_or(&run.name);
        let model: String = model.chars().take(LONGEST_NAME).collect();
        let size = match (number("model_layers"), number("model_width")) {
            (Some(layers), Some(width)) => format!("{layers} layers of width {width}"),
            _ => model.clone(),
        };
        Self { name: run.name.clone(), model, size, measured }
    }

    /// What its marker means: runs of one size, such as those with other settings, stay apart.
    fn marked(&self, all: &[Self]) -> String {
        let alone = all.iter().filter(|of| of.size == self.size).count() == 1;
        if alone { self.size.clone() } else { format!("{}: {}", self.name, self.size) }
    }
}

/// All rows: the page shows only the first of a long table.
///
/// # Errors
/// If it is damaged; if it names more techniques or sites than there can be, or numbers that no measurement has: a figure of
/// these would take forever.
fn read(folder: &Path, path: &Path) -> Result<Vec<Measured>> {
    let bytes = read_inside(folder, path).with_context(|| format!("`{SUMMARY}` cannot be read"))?;
    let damaged = || format!("`{SUMMARY}` is damaged");
    let mut rows: Vec<Measured> = vec![];
    let (mut techniques, mut sites) = (BTreeSet::new(), BTreeSet::new());
    for row in csv::Reader::from_reader(bytes.as_slice()).deserialize() {
        let row: Measured = row.with_context(damaged)?;
        let sane = |number: f64| number.abs() <= LARGEST;
        ensure!(row.effect.is_none_or(sane) && sane(row.precision), "{}: a number that is none", damaged());
        // One quotation mark makes a name of all that follows.
        let short = row.technique.len().max(row.site.len()) <= LONGEST_NAME;
        ensure!(short, "{}: a name of more than {LONGEST_NAME} letters", damaged());
        techniques.insert(row.technique.clone());
        sites.insert(row.site.clone());
        ensure!(techniques.len() <= MOST_TECHNIQUES && sites.len() <= MOST_SITES, "{}: too many names", damaged());
        rows.push(row);
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use std::{fmt::Write, fs};

    use serde_json::{Value, json};

    use super::{super::page, *};

    /// A folder as `intervene` writes it: two techniques at two sites, two pairs.
    fn interventions(at: &Path, model: &str, settings: &Value, effect: f64) {
        fs::create_dir_all(at).unwrap();
        let record = json!({"command": "intervene", "model": model, "settings": settings});
        fs::write(at.join("run.json"), record.to_string()).unwrap();
        let mut table = "from,technique,site,layer,effect,effect_low,precision\n".to_owned();
        for (from, more) in [("guitar", -0.5), ("piano", 0.5)] {
            for technique in ["replace", "adjust"] {
                for (site, factor) in [("mlp_out", 1.0), ("cross_attn_out", -1.0)] {
                    let effect = factor * effect + more;
                    let precision = -effect.abs();
                    writeln!(table, "{from},{technique},{site},0,{effect},,{precision}").unwrap();
                }
            }
        }
        fs::write(at.join(SUMMARY), table).unwrap();
    }

    #[test]
    fn models_of_two_sizes_are_drawn_in_one_figure() {
        let guard = tempfile::tempdir().unwrap();
        let folders = ["small", "large"].map(|name| guard.path().join(name));
        interventions(&folders[0], "musicgen-small", &json!({"model_layers": 24, "model_width": 1024}), 2.0);
        interventions(&folders[1], "musicgen-large", &json!({"model_layers": 48, "model_width": 2048}), 3.0);
        let made = page(&folders, &folders[0], 0).unwrap();
        let figure = made.by_size.expect("two models");
        assert!(made.html.contains("by model size (24 layers of width 1024; 48 layers of width 2048)"));
        let at = |text: &str| made.html.find(text).unwrap_or_else(|| panic!("no `{text}`"));
        assert!(at("<figure") < at("id=\"run-0\""), "it stands before all runs");
        let rows: Vec<Vec<String>> = csv::Reader::from_reader(figure.csv.as_bytes())
            .records()
            .map(|row| row.unwrap().iter().map(str::to_owned).collect())
            .collect();
        assert_eq!(rows.len(), 2 * 2 * 2, "technique, site, model");
        assert_eq!(rows[0][..3], ["mlp_out", "24 layers of width 1024", "replace"]);
        let value = |row: usize, column: usize| rows[row][column].parse::<f64>().unwrap();
        // Means over 1.5 and 2.5, with their intervals.
        assert_eq!((value(0, 3), value(0, 6)), (-2.0, 2.0));
        assert!(value(0, 7) >= 1.5 && value(0, 7) < 2.0 && value(0, 8) > 2.0 && value(0, 8) <= 2.5);
        assert_eq!((value(7, 3), value(7, 6)), (-3.0, -3.0));
        // Written beside the page, it is no figure of the run in whose folder that is.
        figure.write(&folders[0]).unwrap();
        assert!(folders[0].join(format!("figures/{NAME}.svg")).is_file());
        let again = page(&folders, &folders[0], 0).unwrap();
        assert_eq!(again.html, made.html);
        let alone = page(&folders[..1], &folders[0], 0).unwrap();
        assert!(alone.by_size.is_none() && !alone.html.contains("by model size"));
    }

    #[test]
    fn a_damaged_summary_is_left_out_at_once() {
        let guard = tempfile::tempdir().unwrap();
        let folders = ["small", "large"].map(|name| guard.path().join(name));
        let size = |layers: usize| json!({"model_layers": layers, "model_width": 64});
        interventions(&folders[0], "small", &size(2), 1.0);
        interventions(&folders[1], "large", &size(4), 1.0);
        let whole = fs::read_to_string(folders[1].join(SUMMARY)).unwrap();
        let many = |name: &str| {
            (0..20_000).fold("technique,site,effect,precision\n".to_owned(), |text, row| {
                text + &name.replace('N', &row.to_string()) + ",1,-1\n"
            })
        };
        let open_quote = whole.replacen("replace", "\"replace", 1) + &"x,".repeat(500_000);
        let huge = whole.replacen("-1.5", "1e308", 1);
        for damaged in [
            many("replace,siteN"),
            many("tN,mlp_out"),
            open_quote,
            huge,
            "technique,site,effect,precision\na,b,NaN,-1\n".to_owned(),
        ] {
            fs::write(folders[1].join(SUMMARY), damaged).unwrap();
            let started = std::time::Instant::now();
            let made = page(&folders, guard.path(), 0).unwrap();
            assert!(made.by_size.is_none(), "one of them alone is left");
            assert!(started.elapsed() < std::time::Duration::from_secs(20), "{:?}", started.elapsed());
        }
    }

    #[test]
    fn runs_of_one_model_are_no_sizes_and_stay_apart_among_others() {
        let guard = tempfile::tempdir().unwrap();
        let folders = ["own", "clean", "old"].map(|name| guard.path().join(name));
        let size = || json!({"model_layers": 24, "model_width": 1024});
        interventions(&folders[0], "musicgen-small", &size(), 1.0);
        interventions(&folders[1], "musicgen-small", &size(), 2.0);
        // Of a version that did not say the size.
        interventions(&folders[2], "musicgen-large", &json!({}), 3.0);
        assert!(page(&folders[..2], guard.path(), 0).unwrap().by_size.is_none());
        let figure = page(&folders, guard.path(), 0).unwrap().by_size.unwrap();
        for size in ["own: 24 layers of width 1024", "clean: 24 layers of width 1024", "musicgen-large"] {
            assert_eq!(figure.csv.matches(&format!(",{size},")).count(), 4, "{size}");
        }
        fs::write(folders[2].join(SUMMARY), "site,effect\nx,y\n").unwrap();
        let made = page(&folders, guard.path(), 0).unwrap();
        assert!(made.by_size.is_none() && made.html.contains("left out of the figure of all models: `summary.csv`"));
    }
}
