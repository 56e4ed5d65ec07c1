//! `LoRA` adapters, merged into the weights while they are read: `W + s · B A`.
//!
//! References: Hu et al., "`LoRA`: Low-Rank Adaptation of Large Language Models", 2022; Kalajdzievski, "A Rank Stabilization
//! Scaling Factor for Fine-Tuning with `LoRA`", 2023; the files are those of PEFT (Apache-2.0), `LoraConfig` and
//! `LoraLayer.get_delta_weight`. Differs: the sum is taken in 64 bit and kept in 32.

use std::{collections::BTreeMap, path::Path};

use safetensors::Dtype;
use serde::Deserialize;
use serde_json::Value;

use super::{LoadError, RawTensor, Source, open_named_folder, read_json};

/// File of an adapter's configuration.
const CONFIG: &str = "adapter_config.json";
/// What PEFT puts before the names of the model.
const PREFIX: &str = "base_model.model.";

/// `adapter_config.json`, as far as it shapes the merged weights. Defaults are those of PEFT's `LoraConfig`.
#[derive(Deserialize)]
#[serde(default)]
#[expect(clippy::struct_excessive_bools, reason = "the file has them")]
struct AdapterConfig {
    peft_type: String,
    base_model_name_or_path: Option<String>,
    lora_alpha: f64,
    alpha_pattern: BTreeMap<String, f64>,
    use_rslora: bool,
    use_dora: bool,
    use_qalora: bool,
    fan_in_fan_out: bool,
    layer_replication: Option<Value>,
}

impl Default for AdapterConfig {
    fn default() -> Self {
        Self {
            peft_type: "nothing".to_owned(),
            base_model_name_or_path: None,
            lora_alpha: 8.0,
            alpha_pattern: BTreeMap::new(),
            use_rslora: false,
            use_dora: false,
            use_qalora: false,
            fan_in_fan_out: false,
            layer_replication: None,
        }
    }
}

/// The model that the adapter in `folder` was trained on, as it was named then; `None` if `folder` holds no adapter alone.
///
/// # Errors
/// [`LoadError`] if its configuration cannot be read.
pub fn base_of_adapter(folder: &Path) -> Result<Option<String>, LoadError> {
    let path = folder.join(CONFIG);
    if !path.is_file() || folder.join("config.json").exists() {
        return Ok(None);
    }
    let config: AdapterConfig = read_json(&path)?;
    config.base_model_name_or_path.filter(|name| !name.is_empty()).map(Some).ok_or_else(|| LoadError::Config {
        path,
        reason: "it does not say which model it adapts: `base_model_name_or_path` is absent".to_owned(),
    })
}

/// `base` with the adapter in `folder` merged into it.
///
/// # Errors
/// [`LoadError`] if the adapter is of another kind, cannot be read, or adapts what `base` does not have.
pub(crate) fn adapted(base: Box<dyn Source>, folder: &Path) -> Result<Box<dyn Source>, LoadError> {
    let path = folder.join(CONFIG);
    let wrong = |reason: String| LoadError::Config { path: path.clone(), reason };
    let config: AdapterConfig = read_json(&path)?;
    config.check().map_err(wrong)?;
    let adapter = open_named_folder(folder, "adapter_model", "adapter_model")?;
    let mut changes: BTreeMap<String, Change> = BTreeMap::new();
    for name in adapter.names() {
        let Some(part) = Part::of(&name) else {
            return Err(wrong(format!("`{}` in it is no part of a LoRA that is supported", name.escape_debug())));
        };
        let key = find(base.as_ref(), &part.module, part.field).map_err(wrong)?;
        let change = changes.entry(key).or_insert_with(|| Change { module: part.module.clone(), ..Change::default() });
        let place = match part.role {
            Role::Down => &mut change.down,
            Role::Up => &mut change.up,
            Role::Whole => &mut change.whole,
        };
        *place = Some(name);
        change.embeds |= part.embeds;
    }
    if changes.is_empty() {
        return Err(wrong("its weights are empty".to_owned()));
    }
    let changes = changes.into_iter().map(|(key, change)| {
        let merge = change.checked(&key, &config, base.as_ref(), adapter.as_ref())?;
        Ok((key, merge))
    });
    let changes = changes.collect::<Result<_, String>>().map_err(wrong)?;
    Ok(Box::new(Adapted { base, adapter, changes }))
}

impl AdapterConfig {
    fn check(&self) -> Result<(), String> {
        if self.peft_type != "LORA" {
            return Err(format!("`peft_type` is `{}`, only `LORA` is supported", self.peft_type));
        }
        let refused = [
            ("use_dora", self.use_dora),
            ("use_qalora", self.use_qalora),
            ("fan_in_fan_out", self.fan_in_fan_out),
            ("layer_replication", self.layer_replication.is_some()),
        ];
        match refused.iter().find(|(_, asked)| *asked) {
            Some((field, _)) => Err(format!("`{field}` is set, which is not supported")),
            None => Ok(()),
        }
    }

    /// What `B A` of a module is multiplied with, for a rank.
    fn scale(&self, module: &str, rank: usize) -> f64 {
        // PEFT takes the first key that the end of the name matches.
        let is_of = |key: &str| module.strip_suffix(key).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
        let alpha = self.alpha_pattern.iter().find(|(key, _)| is_of(key)).map_or(self.lora_alpha, |(_, alpha)| *alpha);
        let rank = rank as f64;
        alpha / if self.use_rslora { rank.sqrt() } else { rank }
    }
}

/// What a tensor of an adapter is for.
enum Role {
    /// `A`, `[rank, in]`.
    Down,
    /// `B`, `[out, rank]`.
    Up,
    /// Stands in place of the model's.
    Whole,
}

/// Of which module a tensor of an adapter is, and what of it.
struct Part {
    module: String,
    field: &'static str,
    role: Role,
    embeds: bool,
}

impl Part {
    /// `None` if it is not of an adapter that is supported.
    fn of(name: &str) -> Option<Self> {
        let name = name.strip_prefix(PREFIX).unwrap_or(name);
        let roles = [
            (".lora_A.", Role::Down, false),
            (".lora_B.", Role::Up, false),
            (".lora_embedding_A", Role::Down, true),
            (".lora_embedding_B", Role::Up, true),
        ];
        for (infix, role, embeds) in roles {
            if let Some((module, rest)) = name.split_once(infix) {
                // Between them may stand the adapter's name.
                let is_whole = if embeds { !rest.contains("bias") } else { rest.ends_with("weight") };
                return is_whole.then(|| Self { module: module.to_owned(), field: "weight", role, embeds });
            }
        }
        if name.contains("lora_") {
            return None;
        }
        // Of `modules_to_save`, and of biases.
        let (module, field) = name.rsplit_once('.')?;
        let module = module.trim_end_matches(".modules_to_save.default").trim_end_matches(".base_layer");
        let field = match field {
            "weight" => "weight",
            "bias" => "bias",
            _ => return None,
        };
        Some(Self { module: module.to_owned(), field, role: Role::Whole, embeds: false })
    }
}

/// The name in `base` of `field` of `module`; an adapter of a part of the model leaves out what the part is called.
fn find(base: &dyn Source, module: &str, field: &str) -> Result<String, String> {
    let key = format!("{module}.{field}");
    if base.shape(&key).is_some() {
        return Ok(key);
    }
    let end = format!(".{key}");
    let found: Vec<String> = base.names().into_iter().filter(|name| name.ends_with(&end)).collect();
    match &found[..] {
        [only] => Ok(only.clone()),
        [] => Err(format!("it adapts `{}`, which the model does not have", module.escape_debug())),
        several => Err(format!("it adapts `{}`, of which the model has {}", module.escape_debug(), several.len())),
    }
}

/// Names of the tensors that change one of the model's.
#[derive(Default)]
struct Change {
    module: String,
    down: Option<String>,
    up: Option<String>,
    whole: Option<String>,
    embeds: bool,
}

/// How one of the model's tensors is changed.
enum Merge {
    /// `scale · B A` is added; transposed for an embedding.
    Add { down: String, up: String, rank: usize, scale: f64, embeds: bool },
    /// Another tensor stands in its place.
    Replace(String),
}

impl Change {
    fn checked(
        self,
        key: &str,
        config: &AdapterConfig,
        base: &dyn Source,
        adapter: &dyn Source,
    ) -> Result<Merge, String> {
        let module = self.module.escape_debug().to_string();
        let shape = base.shape(key).unwrap_or_default();
        let (down, up) = match (self.down, self.up, self.whole) {
            (Some(down), Some(up), None) => (down, up),
            (None, None, Some(whole)) if adapter.shape(&whole) == Some(shape) => return Ok(Merge::Replace(whole)),
            (None, None, Some(_)) => return Err(format!("`{module}` has another shape than in the model")),
            _ => return Err(format!("of `{module}` only one of `lora_A` and `lora_B` is there")),
        };
        let [a, b] = [&down, &up].map(|name| adapter.shape(name).unwrap_or_default());
        let rank = a.first().copied().unwrap_or(0);
        let [inner, outer] = [(&a, 1..a.len()), (&b, 0..1)].map(|(shape, axes)| shape[axes].iter().product::<usize>());
        let fits = b.len() == a.len()
            && b.len() >= 2
            && rank > 0
            && b[1] == rank
            && b[2..].iter().all(|&axis| axis == 1)
            && if self.embeds { shape == [inner, outer] } else { shape[..] == [&[outer], &a[1..]].concat() };
        if !fits {
            return Err(format!("`{module}` is adapted by {a:?} and {b:?}, but has shape {shape:?} in the model"));
        }
        let scale = config.scale(&self.module, rank);
        if !scale.is_finite() {
            return Err(format!("the scale of `{module}` is {scale}"));
        }
        Ok(Merge::Add { down, up, rank, scale, embeds: self.embeds })
    }
}

/// A model with an adapter merged into it.
struct Adapted {
    base: Box<dyn Source>,
    adapter: Box<dyn Source>,
    changes: BTreeMap<String, Merge>,
}

impl Adapted {
    /// The elements of a tensor of the adapter.
    fn values(&self, name: &str) -> Result<Vec<f32>, LoadError> {
        let raw = self.adapter.read(name)?;
        raw.to_floats(name)
    }
}

impl Source for Adapted {
    fn names(&self) -> Vec<String> {
        self.base.names()
    }

    fn stored_names(&self) -> Vec<String> {
        self.base.stored_names()
    }

    fn wrapping(&self) -> Option<String> {
        self.base.wrapping()
    }

    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        self.base.shape(name)
    }

    fn read(&self, name: &str) -> Result<RawTensor<'_>, LoadError> {
        let (down, up, rank, scale, embeds) = match self.changes.get(name) {
            None => return self.base.read(name),
            Some(Merge::Replace(whole)) => return self.adapter.read(whole),
            Some(Merge::Add { down, up, rank, scale, embeds }) => (down, up, *rank, *scale, *embeds),
        };
        let raw = self.base.read(name)?;
        let mut weight = raw.to_floats(name)?;
        // For an embedding the roles of rows and columns are exchanged.
        let (down, up) = (self.values(down)?, self.values(up)?);
        let inner = down.len() / rank;
        let outer = up.len() / rank;
        let mut row = vec![0.0f64; inner];
        for (index, factors) in up.chunks_exact(rank).enumerate() {
            row.fill(0.0);
            for (&factor, step) in factors.iter().zip(down.chunks_exact(inner)) {
                row.iter_mut().zip(step).for_each(|(sum, &value)| *sum += f64::from(factor) * f64::from(value));
            }
            for (column, sum) in row.iter().enumerate() {
                let at = if embeds { column * outer + index } else { index * inner + column };
                weight[at] = (f64::from(weight[at]) + scale * sum) as f32;
            }
        }
        let bytes: Vec<u8> = weight.into_iter().flat_map(f32::to_le_bytes).collect();
        Ok(RawTensor { dtype: Dtype::F32, shape: raw.shape, bytes: bytes.into() })
    }
}
