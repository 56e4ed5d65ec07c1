//! `tonoscope models`

use std::io::Write;

use anyhow::{Result, bail};
use serde_json::json;
use tonoscope_hub::{HubConfig, HubError, KINDS, ModelRef, Outcome, Store, Wanted, all_sound, known_names};

use crate::{interrupt, progress::Transfer};

/// List, fetch, check and remove models
#[derive(Debug, clap::Args)]
pub(crate) struct ModelsArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Show which models are here, and which names are known
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Fetch a model from the Hub, or what is missing of it
    Fetch {
        /// Name or Hub id
        model: String,
    },
    /// Read every file of a model and compare it with its checksum
    Verify {
        /// Name, Hub id or folder
        model: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Remove a model from the cache
    Rm {
        /// Name or Hub id, with `@revision` for one of its revisions
        model: String,
    },
}

pub(crate) fn run(args: ModelsArgs, out: &mut dyn Write) -> Result<()> {
    let store = Store::new(HubConfig::from_env()?);
    interrupt::listen();
    match args.action {
        Action::List { json } => list(&store, json, out),
        Action::Fetch { model } => {
            let model = store.parse(&model)?;
            let checkpoint = of_its_kind(|wanted| store.fetch(&model, wanted, &mut Transfer::new()))?;
            writeln!(out, "{}", checkpoint.folder.display())?;
            Ok(())
        }
        Action::Verify { model, json } => verify(&store, &model, json, out),
        Action::Rm { model } => {
            let removed = store.remove(&store.parse(&model)?)?;
            writeln!(out, "removed {} files, {}", removed.files, megabytes(removed.bytes))?;
            Ok(())
        }
    }
}

fn list(store: &Store, json: bool, out: &mut dyn Write) -> Result<()> {
    let models = KINDS.iter().map(|wanted| Ok((*wanted, store.list(wanted)?))).collect::<Result<Vec<_>>>()?;
    let snapshots = models.iter().flat_map(|(wanted, models)| models.iter().map(move |model| (wanted, model)));
    let snapshots = snapshots.flat_map(|(wanted, model)| {
        let ours = move |snapshot: &&tonoscope_hub::Snapshot| {
            snapshot.model_type.as_deref().is_some_and(|found| wanted.model_types.contains(&found))
        };
        model.snapshots.iter().filter(ours).map(move |snapshot| (model, snapshot))
    });
    if json {
        let rows: Vec<_> = snapshots
            .map(|(model, snapshot)| {
                json!({
                    "id": model.id.as_str(), "revision": snapshot.commit, "bytes": model.bytes,
                    "complete": snapshot.is_complete(),
                })
            })
            .collect();
        let known: Vec<&str> = known_names().collect();
        serde_json::to_writer_pretty(&mut *out, &json!({ "cached": rows, "known": known }))?;
        writeln!(out)?;
        return Ok(());
    }
    for (model, snapshot) in snapshots {
        let state = if snapshot.is_complete() { "complete" } else { "incomplete" };
        let revision = &snapshot.commit[..snapshot.commit.len().min(12)];
        writeln!(out, "{}  {revision}  {}  {state}", model.id.as_str(), megabytes(model.bytes))?;
    }
    writeln!(out, "known names: {}", known_names().collect::<Vec<_>>().join(", "))?;
    Ok(())
}

fn verify(store: &Store, model: &str, json: bool, out: &mut dyn Write) -> Result<()> {
    let parsed = store.parse(model)?;
    let wanted = kind_here(store, &parsed);
    let checks = store.verify(&parsed, wanted, &mut Transfer::new())?;
    let word = |outcome: &Outcome| match outcome {
        Outcome::Intact => "intact".to_owned(),
        Outcome::WellFormed => "well-formed".to_owned(),
        Outcome::Unchecked { .. } => "unchecked".to_owned(),
        Outcome::Missing => "missing".to_owned(),
        Outcome::Corrupt { reason } => format!("corrupt: {reason}"),
    };
    if json {
        let rows: Vec<_> = checks
            .iter()
            .map(|check| json!({ "file": check.file, "bytes": check.size, "outcome": word(&check.outcome) }))
            .collect();
        serde_json::to_writer_pretty(&mut *out, &rows)?;
        writeln!(out)?;
    } else {
        for check in &checks {
            writeln!(out, "{}  {}  {}", check.file, megabytes(check.size), word(&check.outcome))?;
        }
    }
    if !all_sound(&checks) {
        bail!("`{model}` is damaged; `tonoscope models fetch {model}` mends it");
    }
    Ok(())
}

/// What `act` does with the kind of model that it is about: the first of whose architecture it does not complain.
fn of_its_kind<T>(mut act: impl FnMut(&Wanted) -> Result<T, HubError>) -> Result<T, HubError> {
    let mut refused = None;
    for wanted in KINDS {
        match act(wanted) {
            Err(error @ HubError::ModelType { .. }) => refused = refused.or(Some(error)),
            result => return result,
        }
    }
    Err(refused.expect("there are kinds of models"))
}

/// The kind of a model that is here: one that it is whole as, else one that its configuration does not contradict.
fn kind_here(store: &Store, model: &ModelRef) -> &'static Wanted {
    let found: Vec<_> = KINDS.iter().map(|wanted| store.locate(model, wanted)).collect();
    let whole = found.iter().position(Result::is_ok);
    let possible = || found.iter().position(|found| !matches!(found, Err(HubError::ModelType { .. })));
    KINDS[whole.or_else(possible).unwrap_or(0)]
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}
