//! A model on a device, and everything that the page does with it.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::json;
use tonoscope_backends::{DeviceInfo, Opened};
use tonoscope_core::{
    checkpoint::Placement,
    hooks::{Branch, Capture, EditFile, EditTensors, HookPoint, Hooks, Spec},
    models::musicgen::Step,
    readout::Readout,
};
use wasm_bindgen::prelude::{JsError, wasm_bindgen};

use crate::{
    bridge, capture,
    crew::Workers,
    device::opened,
    direction::{self, DirectionRequest},
    failure::{failed, misuse, not_loaded},
    heat::{Heat, Reading},
    judge::Judge,
    lens::{self, Lens},
    live::Live,
    model::{self, Loaded, Shard},
    piece::Piece,
    probes,
    request::{Followed, PieceRequest},
};

/// A model on a device.
#[wasm_bindgen]
pub struct Session {
    loaded: Loaded,
    device: DeviceInfo,
    weights: String,
    edits: Option<EditFile>,
    probes: Option<Readout>,
    judge: Option<Judge>,
    placement: Placement,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OpenRequest {
    device: String,
    weights: String,
    #[serde(default)]
    members: usize,
    #[serde(default = "worth")]
    divide_from: usize,
    shards: Vec<Shard>,
}

/// On two cores a model whose matrices are 512 × 512 and more is faster with two workers, one of width 128 was slower; where between
/// them it turns was not measured.
fn worth() -> usize {
    1 << 18
}

#[wasm_bindgen]
impl Session {
    /// Loads a model; `request` is JSON: `device` (`cpu`, `webgpu`), `weights` (`f32`, `f16`, `int8`, `int4`; the latter two on
    /// the CPU only, and one of the others per worker on the GPU), `members` (workers that help on the CPU: 0), `divide_from`
    /// (weights of a matrix from which on they do) and `shards` (`name`, `file`, `bytes` of each).
    ///
    /// # Errors
    /// Says which file or tensor is at fault.
    pub async fn open(
        request: String,
        config: Vec<u8>,
        generation: Option<Vec<u8>>,
        tokenizer: Vec<u8>,
    ) -> Result<Session, JsError> {
        let request: OpenRequest = serde_json::from_str(&request).map_err(failed)?;
        bridge::stage("loading");
        let workers = Workers { members: request.members, least: request.divide_from };
        let opened = opened(&request.device, &request.weights, workers).await?;
        let loaded = model::load(request.shards, &config, generation.as_deref(), &tokenizer, &opened.placement)?;
        let Opened { info, placement, .. } = opened;
        Ok(Self { loaded, device: info, weights: request.weights, edits: None, probes: None, judge: None, placement })
    }

    /// JSON: shape of the model, its defaults, its hook points, its device.
    pub fn about(&self) -> String {
        let Loaded { model, generation, .. } = &self.loaded;
        let config = model.config();
        json!({
            "layers": config.decoder.num_hidden_layers,
            "width": config.decoder.hidden_size,
            "heads": config.decoder.num_attention_heads,
            "codebooks": config.decoder.num_codebooks,
            "vocabulary": config.decoder.vocab_size,
            "channels": config.decoder.audio_channels,
            "frame_rate": model.frame_rate(),
            "sample_rate": config.audio_encoder.sampling_rate,
            "text_width": config.text_encoder.d_model,
            "guidance": generation.guidance_scale,
            "device": self.device,
            "weights": self.weights,
            "points": model.decoder().points().iter().map(ToString::to_string).collect::<Vec<_>>(),
        })
        .to_string()
    }

    /// Makes a piece of music; `request` is JSON.
    ///
    /// # Errors
    /// `cancelled` if the page asked for it; else what is wrong.
    pub async fn generate(&self, request: String) -> Result<Piece, JsError> {
        let request = PieceRequest::parse(&request)?;
        let model = &self.loaded.model;
        let how = request.generate(&self.loaded)?;
        let prompt = request.sequence(&self.loaded)?;
        let points = model.points();
        let mut spec = Spec { captures: request.captures()?, edits: vec![] };
        let mut tensors = EditTensors::new();
        if let Some(how) = request.edits {
            spec.edits = direction::applied(self.edits()?, how, &points).map_err(failed)?;
            if !spec.edits.is_empty() {
                tensors = direction::tensors(self.edits()?, &model.device());
            }
        }
        let heat = request.heat.map(|what| self.heat(what)).transpose()?.flatten();
        let asked = spec.clone();
        spec.captures.extend(heat.iter().flat_map(Heat::captures));
        let mut hooks = Hooks::new(&spec, &points, &tensors).map_err(failed)?;
        bridge::stage("generating");
        let (text, sequences) = model.sequences(&mut hooks, &[prompt]);
        let mut live = Live::new(model, how.frames, heat);
        let made = model
            .generate_heard(&mut hooks, &text, &sequences, &how, async |step: Step<'_>| live.hear(step).await)
            .await;
        if let Some(failure) = live.failure() {
            return Err(failure);
        }
        let mut made = made.map_err(failed)?;
        let recorded = capture::read(&hooks.finish().map_err(failed)?).await?;
        let wanted = |recorded: &&capture::Recorded| {
            let of = |capture: &Capture| capture.reduce == recorded.reduce && capture.points.matches(&recorded.point);
            asked.captures.iter().any(of)
        };
        let mut kept: Vec<&capture::Recorded> = recorded.iter().filter(wanted).collect();
        // A point that is both followed and asked for was recorded twice.
        kept.dedup_by_key(|recorded| (recorded.point, format!("{:?}", recorded.reduce)));
        let captures = if kept.is_empty() { None } else { Some(capture::to_file(&kept, &asked, &request.prompt)?) };
        let codes = made.codes.swap_remove(0);
        Ok(Piece { codes, wave: live.finish()?, tie: made.first_tie.swap_remove(0), captures })
    }

    /// What each layer knows about codes `[codebook, frame]` that [`Self::generate`] made of the same request without
    /// edits; with `alone`, every layer writes its own music instead.
    ///
    /// # Errors
    /// As [`Self::generate`]; codes longer than the model sees at once.
    pub async fn lens(&self, request: String, codes: Vec<u32>, alone: bool) -> Result<Lens, JsError> {
        let request = PieceRequest::parse(&request)?;
        let codebooks = self.loaded.model.config().decoder.num_codebooks;
        let vocabulary = self.loaded.model.config().decoder.vocab_size;
        let frames = codes.len() / codebooks;
        let foreign = codes.iter().any(|code| *code as usize >= vocabulary);
        if frames == 0 || !codes.len().is_multiple_of(codebooks) || foreign {
            return Err(misuse("these codes are not of this model"));
        }
        let codes: Vec<Vec<u32>> = codes.chunks(frames).map(<[u32]>::to_vec).collect();
        lens::read(&self.loaded, &request, &codes, alone, self.judge.as_ref()).await
    }

    /// Loads a PaSST for [`Self::lens`] to ask, from then on; `shard` is JSON (`name`, `file`, `bytes`), `config` the
    /// `config.json` of its folder. JSON: the number of its classes, the concepts that it knows.
    ///
    /// # Errors
    /// If it is none.
    #[expect(clippy::needless_pass_by_value, reason = "what JavaScript may leave out comes by value")]
    #[wasm_bindgen(js_name = loadJudge)]
    pub fn load_judge(&mut self, shard: &str, config: Option<String>) -> Result<String, JsError> {
        let shard: Shard = serde_json::from_str(shard).map_err(failed)?;
        let judge = Judge::load(shard, config.as_deref(), self.placement.clone())?;
        let about = judge.about();
        self.judge = Some(judge);
        Ok(about)
    }

    /// Loads a file of edits, as the command line writes and reads it; JSON: what it does.
    ///
    /// # Errors
    /// If it is none, or is not for this model.
    #[wasm_bindgen(js_name = loadEdits)]
    pub fn load_edits(&mut self, name: &str, bytes: Vec<u8>) -> Result<String, JsError> {
        let file = EditFile::from_bytes(name, bytes).map_err(|error| not_loaded(&error))?;
        let points = self.loaded.model.points();
        let spec = Spec { captures: vec![], edits: file.edits.clone() };
        // Everything that can be wrong with an edit shows now, not in the middle of a run.
        Hooks::new(&spec, &points, &direction::tensors(&file, &self.loaded.model.device())).map_err(failed)?;
        let directions = direction::directions(&file, &points).map_err(failed)?;
        let about = json!({
            "edits": file.edits,
            "directions": directions.keys().map(ToString::to_string).collect::<Vec<_>>(),
        });
        self.edits = Some(file);
        Ok(about.to_string())
    }

    /// Forgets the edits.
    #[wasm_bindgen(js_name = dropEdits)]
    pub fn drop_edits(&mut self) {
        self.edits = None;
    }

    /// Loads a file of fitted probes, as `tonoscope probe-activations` writes it; JSON: what is told apart, and where.
    ///
    /// # Errors
    /// If it is none, or is not for this model.
    #[wasm_bindgen(js_name = loadProbes)]
    pub fn load_probes(&mut self, name: &str, bytes: Vec<u8>) -> Result<String, JsError> {
        let file = Readout::from_bytes(name, bytes).map_err(|error| not_loaded(&error))?;
        let points: Vec<HookPoint> = probes::readings(&file, &self.loaded.model)?.into_keys().collect();
        let about = json!({
            "labels": file.labels,
            "points": points,
            "all": file.probes.len(),
            "kind": file.probes.values().next().map(|probe| probe.kind),
            "branch": file.branch,
            "per_frame": file.per_frame,
            "rows": file.rows,
        });
        self.probes = Some(file);
        Ok(about.to_string())
    }

    /// Makes a file of edits that lead from some prompts to others; `request` is JSON.
    ///
    /// # Errors
    /// As [`Self::generate`].
    pub async fn direction(&self, request: String) -> Result<Vec<u8>, JsError> {
        let request: DirectionRequest = serde_json::from_str(&request).map_err(failed)?;
        bridge::stage("generating");
        request.make(&self.loaded).await?.to_bytes().map_err(|error| not_loaded(&error))
    }
}

impl Session {
    fn edits(&self) -> Result<&EditFile, JsError> {
        self.edits.as_ref().ok_or_else(|| misuse("no edits are loaded"))
    }

    /// `None`: there is nothing to follow.
    fn heat(&self, what: Followed) -> Result<Option<Heat>, JsError> {
        let model = &self.loaded.model;
        let (readings, branch) = match what {
            Followed::Directions => {
                let directions = direction::directions(self.edits()?, &model.points()).map_err(failed)?;
                let along = |(point, direction)| (point, Reading::Along(direction));
                (directions.into_iter().map(along).collect::<BTreeMap<_, _>>(), Branch::Cond)
            }
            Followed::Probes => {
                let file = self.probes.as_ref().ok_or_else(|| misuse("no probes are loaded"))?;
                (probes::readings(file, model)?, file.branch)
            }
        };
        Ok(if readings.is_empty() { None } else { Some(Heat::new(readings, branch)) })
    }
}
