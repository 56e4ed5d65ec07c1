//! Hands the tensors of a checkpoint to a model's constructors, one by one.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use burn::tensor::{DType, Device, Tensor, TensorData};
use half::{bf16, f16};
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
use rand_distr::{Distribution, StandardNormal};
use safetensors::Dtype;
use sha2::{Digest, Sha256};

use super::{
    Instead, LoadError, PackedTaps, RawTensor, Source, TapValues,
    kernels::{Kernels, Limits},
    matrix::{MatrixPacker, MatrixValues, StoredMatrix},
};

/// Most numbers of a model in training, which takes five times their memory: 10 GB.
#[cfg(feature = "training")]
const MOST_IN_TRAINING: usize = 1 << 29;

/// Where the weights of a model go, and in which form.
#[derive(Debug, Clone)]
pub struct Placement {
    /// The device; its default float type is the type of all activations.
    pub device: Device,
    /// Keeps the matrices of linear layers in a form of its own where Burn's is slow; `None`: plain tensors.
    pub packer: Option<Arc<dyn MatrixPacker>>,
}

impl Placement {
    /// Plain tensors on `device`.
    pub fn plain(device: &Device) -> Self {
        Self { device: device.clone(), packer: None }
    }
}

/// A position in the tree of a checkpoint's names, from which a layer takes its tensors.
#[derive(Clone)]
pub struct Weights {
    shared: Arc<Shared>,
    prefix: String,
    /// Whether tensors are of 32 bits, whatever the device's default type is.
    wide: bool,
}

struct Shared {
    origin: Origin,
    /// Names that were taken, with their shapes; none for what was only ignored.
    used: Mutex<BTreeMap<String, Option<Vec<usize>>>>,
    placement: Placement,
    /// Whether NaN and infinities are refused.
    finite: bool,
}

enum Origin {
    Checkpoint(Box<dyn Source>),
    Random {
        seed: u64,
        /// Numbers that may be drawn.
        most: usize,
    },
    Given(BTreeMap<String, GivenTensor>),
}

/// A tensor that is on its device already: a parameter in training, which the model stays differentiable by.
#[derive(Debug, Clone)]
pub struct GivenTensor {
    /// Its elements, row-major; float, of the placement's device.
    pub values: Tensor<1>,
    /// Its shape in a checkpoint.
    pub shape: Vec<usize>,
    /// The same on the host, of a tensor that never changes.
    pub host: Option<Arc<[f32]>>,
}

impl Weights {
    /// Takes tensors from `source`.
    pub fn new(source: Box<dyn Source>, placement: Placement) -> Self {
        Self::from_origin(Origin::Checkpoint(source), placement, false)
    }

    /// As [`Self::new`]; a tensor that holds NaN or an infinity is refused when it is taken.
    pub fn finite(source: Box<dyn Source>, placement: Placement) -> Self {
        Self::from_origin(Origin::Checkpoint(source), placement, true)
    }

    /// Draws every tensor at random: matrices and kernels normal with variance `1 / fan_in`, vectors called `weight`
    /// one, other vectors zero. A tensor depends on `seed` and its own name only.
    pub fn random(seed: u64, placement: Placement) -> Self {
        Self::from_origin(Origin::Random { seed, most: usize::MAX }, placement, false)
    }

    /// As [`Self::random`], on `device`, of a model that a file of settings describes: one of more than
    /// half a billion numbers is refused before they are drawn.
    #[cfg(feature = "training")]
    pub fn for_training(device: &Device) -> Self {
        Self::from_origin(Origin::Random { seed: 0, most: MOST_IN_TRAINING }, Placement::plain(device), false)
    }

    /// Hands out the tensors that are `given`, by their names in a checkpoint: what a model makes of them is differentiable
    /// with respect to them. Matrices stay plain, whatever `placement` packs.
    pub fn given(given: BTreeMap<String, GivenTensor>, device: &Device) -> Self {
        Self::from_origin(Origin::Given(given), Placement::plain(device), false)
    }

    fn from_origin(origin: Origin, placement: Placement, finite: bool) -> Self {
        let shared = Shared { origin, used: Mutex::default(), placement, finite };
        Self { shared: Arc::new(shared), prefix: String::new(), wide: false }
    }

    /// The device that tensors are placed on.
    pub fn device(&self) -> &Device {
        &self.shared.placement.device
    }

    /// One level down: `weights.sub("layers").sub(3)` looks at `….layers.3.…`.
    #[must_use]
    pub fn sub(&self, name: impl std::fmt::Display) -> Self {
        Self { prefix: self.key(&name.to_string()), ..self.clone() }
    }

    /// The same tensors in 32 bits, whatever the device's default type is: for the parts of a model whose numbers leave the
    /// range or the precision of 16.
    #[must_use]
    pub fn wide(&self) -> Self {
        Self { wide: true, ..self.clone() }
    }

    /// The type that tensors are placed in.
    pub fn float(&self) -> DType {
        if self.wide { DType::F32 } else { self.device().settings().float_dtype.into() }
    }

    /// Whether the checkpoint has `name` here; always `false` for random weights.
    pub fn has(&self, name: &str) -> bool {
        match &self.shared.origin {
            Origin::Checkpoint(source) => source.shape(&self.key(name)).is_some(),
            Origin::Random { .. } => false,
            Origin::Given(given) => given.contains_key(&self.key(name)),
        }
    }

    /// Shape of `name` in the checkpoint; `None` if there is none of this name, and always for random weights.
    pub fn shape(&self, name: &str) -> Option<Vec<usize>> {
        match &self.shared.origin {
            Origin::Checkpoint(source) => source.shape(&self.key(name)),
            Origin::Random { .. } => None,
            Origin::Given(given) => given.get(&self.key(name)).map(|tensor| tensor.shape.clone()),
        }
    }

    /// One tensor, in the type of [`Self::float`].
    ///
    /// # Errors
    /// [`LoadError`] if it is missing, of another shape, or not made of floating-point numbers.
    pub fn tensor<const D: usize>(&self, name: &str, shape: [usize; D]) -> Result<Tensor<D>, LoadError> {
        if let Origin::Given(given) = &self.shared.origin {
            return Ok(self.find(given, name, &shape)?.values.clone().reshape(shape));
        }
        let data = match self.raw(name, &shape)? {
            Some(raw) => TensorData::from_bytes_vec(raw.bytes.into_owned(), raw.shape, burn_dtype(raw.dtype)),
            None => TensorData::new(self.drawn(name, &shape), shape),
        };
        let float = self.float();
        Ok(Tensor::from_data(data.convert_dtype(float), (self.device(), float)))
    }

    /// One tensor as `f32` on the host, for what is computed once at loading.
    ///
    /// # Errors
    /// As [`Self::tensor`]; [`LoadError::OnDevice`] of tensors that are given without their values on the host.
    pub fn values(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, LoadError> {
        if let Origin::Given(given) = &self.shared.origin {
            let host = self.find(given, name, shape)?.host.as_ref();
            return host.map(|values| values.to_vec()).ok_or_else(|| LoadError::OnDevice { key: self.key(name) });
        }
        Ok(match self.raw(name, shape)? {
            Some(raw) => to_f32(&raw),
            None => self.drawn(name, shape),
        })
    }

    /// The matrix of a linear layer `[out, in]`, packed where the placement packs.
    pub(crate) fn matrix(&self, name: &str, shape: [usize; 2]) -> Result<StoredMatrix, LoadError> {
        let Some(packer) = &self.shared.placement.packer else {
            return Ok(StoredMatrix::Plain(self.tensor(name, shape)?));
        };
        let wide = if self.wide { packer.wide() } else { None };
        let packer = wide.as_ref().unwrap_or(packer);
        let packed = match self.raw(name, &shape)? {
            Some(raw) => packer.pack(shape, MatrixValues::from_raw(&raw)),
            None => packer.pack(shape, MatrixValues::F32(self.drawn(name, &shape).into())),
        };
        Ok(StoredMatrix::Packed(packed))
    }

    /// A convolution in the placement's own form, if it has one.
    pub(crate) fn pack_taps(&self, taps: &TapValues) -> Option<Arc<dyn PackedTaps>> {
        self.shared.placement.packer.as_ref()?.pack_taps(taps)
    }

    /// The kernels of the placement's device, if it has any.
    pub(crate) fn kernels(&self) -> Option<Arc<dyn Kernels>> {
        self.shared.placement.packer.as_ref()?.kernels()
    }

    /// How much the placement's device computes at once.
    pub(crate) fn limits(&self) -> Limits {
        self.shared.placement.packer.as_ref().map(|packer| packer.limits()).unwrap_or_default()
    }

    /// Whether the tensors are on their device already, so that nothing can be computed of them on the host.
    pub(crate) fn is_given(&self) -> bool {
        matches!(self.shared.origin, Origin::Given(_))
    }

    /// Marks `name` as known but not needed.
    pub fn ignore(&self, name: &str) {
        self.mark(self.key(name), None);
    }

    /// Names and shapes of all tensors that were taken so far: after a model's constructor, what a checkpoint of it holds.
    pub fn taken(&self) -> BTreeMap<String, Vec<usize>> {
        let used = self.shared.used.lock().unwrap_or_else(PoisonError::into_inner);
        used.iter().filter_map(|(name, shape)| Some((name.clone(), shape.clone()?))).collect()
    }

    /// Checks that every tensor of the checkpoint was used.
    ///
    /// # Errors
    /// [`LoadError::Unused`] names those that were not.
    pub fn finish(&self) -> Result<(), LoadError> {
        let names: Vec<String> = match &self.shared.origin {
            Origin::Checkpoint(source) => source.names(),
            Origin::Random { .. } => return Ok(()),
            Origin::Given(given) => given.keys().cloned().collect(),
        };
        let used = self.shared.used.lock().unwrap_or_else(PoisonError::into_inner);
        let mut keys: Vec<String> = names.into_iter().filter(|name| !used.contains_key(name)).collect();
        keys.sort();
        if keys.is_empty() { Ok(()) } else { Err(LoadError::Unused { keys }) }
    }

    fn raw(&self, name: &str, shape: &[usize]) -> Result<Option<RawTensor<'_>>, LoadError> {
        let key = self.key(name);
        let source = match &self.shared.origin {
            Origin::Checkpoint(source) => source,
            Origin::Random { most, .. } => return self.count(&key, shape, *most).map(|()| None),
            Origin::Given(_) => return Ok(None),
        };
        // The shape first: a tensor of another one is not read into memory.
        match source.shape(&key) {
            None => return Err(self.missing(source.as_ref(), key)),
            Some(found) if found != shape => {
                return Err(LoadError::Shape { key, found, expected: shape.to_vec() });
            }
            Some(_) => {}
        }
        let raw = source.read(&key)?;
        if !matches!(raw.dtype, Dtype::F64 | Dtype::F32 | Dtype::F16 | Dtype::BF16) {
            return Err(LoadError::Dtype { key, found: format!("{:?}", raw.dtype) });
        }
        if self.shared.finite
            && let Some((element, value)) = to_f32(&raw).into_iter().enumerate().find(|(_, value)| !value.is_finite())
        {
            return Err(LoadError::NotFinite { key, element, value });
        }
        self.mark(key, Some(shape.to_vec()));
        Ok(Some(raw))
    }

    /// Makes sure that with a tensor of this shape no more than `most` numbers are drawn.
    fn count(&self, key: &str, shape: &[usize], most: usize) -> Result<(), LoadError> {
        if most == usize::MAX {
            return Ok(());
        }
        let size = |shape: &[usize]| shape.iter().try_fold(1usize, |product, extent| product.checked_mul(*extent));
        let others: usize = self.taken().values().filter_map(|shape| size(shape)).sum();
        match size(shape).and_then(|size| size.checked_add(others)) {
            Some(all) if all <= most => Ok(()),
            _ => {
                let reason = format!("with `{key}` of shape {shape:?} it would have more than {most} numbers");
                Err(LoadError::Config { path: "the model".into(), reason })
            }
        }
    }

    /// The tensor `key` is not in `source`, which has others instead.
    fn missing(&self, source: &dyn Source, key: String) -> LoadError {
        let used = self.shared.used.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = used.values().any(Option::is_some);
        let instead = Instead::of(&key, source.stored_names(), source.wrapping(), fits);
        LoadError::Missing { key, instead }
    }

    fn drawn(&self, name: &str, shape: &[usize]) -> Vec<f32> {
        let Origin::Random { seed, .. } = self.shared.origin else { unreachable!("a checkpoint is read, not drawn") };
        self.mark(self.key(name), Some(shape.to_vec()));
        let len = shape.iter().product();
        if shape.len() < 2 {
            return vec![if name.ends_with("weight") { 1.0 } else { 0.0 }; len];
        }
        let digest: [u8; 32] =
            Sha256::new().chain_update(seed.to_le_bytes()).chain_update(self.key(name)).finalize().into();
        let mut generator = ChaCha8Rng::from_seed(digest);
        let scale = 1.0 / (shape[1..].iter().product::<usize>() as f32).sqrt();
        StandardNormal.sample_iter(&mut generator).take(len).map(|value: f32| value * scale).collect()
    }

    /// The tensor `name` of those that are `given`.
    fn find<'a>(
        &self,
        given: &'a BTreeMap<String, GivenTensor>,
        name: &str,
        shape: &[usize],
    ) -> Result<&'a GivenTensor, LoadError> {
        let key = self.key(name);
        let Some(tensor) = given.get(&key) else { return Err(LoadError::missing(key)) };
        if tensor.shape != shape {
            return Err(LoadError::Shape { key, found: tensor.shape.clone(), expected: shape.to_vec() });
        }
        self.mark(key, Some(shape.to_vec()));
        Ok(tensor)
    }

    fn mark(&self, key: String, shape: Option<Vec<usize>>) {
        self.shared.used.lock().unwrap_or_else(PoisonError::into_inner).insert(key, shape);
    }

    fn key(&self, name: &str) -> String {
        if self.prefix.is_empty() { name.to_owned() } else { format!("{}.{name}", self.prefix) }
    }
}

fn burn_dtype(of: Dtype) -> DType {
    match of {
        Dtype::F64 => DType::F64,
        Dtype::F16 => DType::F16,
        Dtype::BF16 => DType::BF16,
        _ => DType::F32,
    }
}

/// The elements of a floating-point tensor as `f32`.
pub(crate) fn to_f32(raw: &RawTensor<'_>) -> Vec<f32> {
    match raw.dtype {
        Dtype::F64 => chunks(&raw.bytes).map(|bytes| f64::from_le_bytes(bytes) as f32).collect(),
        Dtype::F16 => chunks(&raw.bytes).map(|bytes| f16::from_le_bytes(bytes).to_f32()).collect(),
        Dtype::BF16 => chunks(&raw.bytes).map(|bytes| bf16::from_le_bytes(bytes).to_f32()).collect(),
        _ => chunks(&raw.bytes).map(f32::from_le_bytes).collect(),
    }
}

/// The bytes in groups of `N`: one element each, whatever the alignment of the file.
pub(crate) fn chunks<const N: usize>(bytes: &[u8]) -> impl Iterator<Item = [u8; N]> + '_ {
    bytes.as_chunks::<N>().0.iter().copied()
}
