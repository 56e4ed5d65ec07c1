//! stable-audio-tools' names for an autoencoder.
//!
//! Reference: stable-audio-tools 0.0.19, `models/autoencoders.py` (MIT): nested `Sequential`s, so that every name is a
//! number.

use std::collections::BTreeMap;

use super::OobleckConfig;
use crate::checkpoint::{LoadError, RawTensor, Source};

/// A checkpoint of stable-audio-tools, seen as diffusers would have saved its autoencoder.
pub struct StableAudioToolsNames<S> {
    inner: S,
    /// Name of diffusers → name in `inner`.
    names: BTreeMap<String, String>,
}

impl<S: Source> StableAudioToolsNames<S> {
    /// Sees what lies under `prefix` in `inner`, `pretransform.model.` in a diffusion model and nothing in an autoencoder
    /// alone. What is not a tensor of such an autoencoder keeps its name; what lies elsewhere is hidden.
    pub fn new(inner: S, prefix: &str, config: &OobleckConfig) -> Self {
        let blocks = config.downsampling_ratios.len();
        let renamed = |old: String| {
            let name = old.strip_prefix(prefix)?;
            Some((renamed(name, blocks).unwrap_or_else(|| name.to_owned()), old))
        };
        let names = inner.names().into_iter().filter_map(renamed).collect();
        Self { inner, names }
    }
}

impl<S: Source> Source for StableAudioToolsNames<S> {
    fn names(&self) -> Vec<String> {
        self.names.keys().cloned().collect()
    }

    fn stored_names(&self) -> Vec<String> {
        self.inner.stored_names()
    }

    fn wrapping(&self) -> Option<String> {
        self.inner.wrapping()
    }

    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        Some(reshaped(name, self.inner.shape(self.names.get(name)?)?))
    }

    fn read(&self, name: &str) -> Result<RawTensor<'_>, LoadError> {
        let old = self.names.get(name).ok_or_else(|| LoadError::missing(name))?;
        let mut raw = self.inner.read(old)?;
        raw.shape = reshaped(name, raw.shape);
        Ok(raw)
    }
}

/// diffusers keeps the parameters of a snake as `[1, channel, 1]`.
fn reshaped(name: &str, shape: Vec<usize>) -> Vec<usize> {
    let of_snake = matches!(name.rsplit_once('.'), Some((_, "alpha" | "beta")));
    if of_snake && shape.len() == 1 { vec![1, shape[0], 1] } else { shape }
}

/// `name` as diffusers has it; `None` if it is of none of the layers.
fn renamed(name: &str, blocks: usize) -> Option<String> {
    let (stack, rest) = name.split_once(".layers.")?;
    let decodes = match stack {
        "encoder" => false,
        "decoder" => true,
        _ => return None,
    };
    let (index, rest) = rest.split_once('.')?;
    let layer = match index.parse::<usize>().ok()? {
        0 => format!("conv1.{rest}"),
        index if index == blocks + 1 => format!("snake1.{rest}"),
        index if index == blocks + 2 => format!("conv2.{rest}"),
        index if index <= blocks => {
            let (part, rest) = rest.strip_prefix("layers.")?.split_once('.')?;
            let part = match (decodes, part) {
                (false, "3") | (true, "0") => format!("snake1.{rest}"),
                (false, "4") => format!("conv1.{rest}"),
                (true, "1") => format!("conv_t1.{rest}"),
                _ => {
                    let unit = part.parse::<usize>().ok()?.checked_sub(2 * usize::from(decodes))? + 1;
                    let (part, rest) = rest.strip_prefix("layers.")?.split_once('.')?;
                    let part = match part {
                        "0" => "snake1",
                        "1" => "conv1",
                        "2" => "snake2",
                        "3" => "conv2",
                        _ => return None,
                    };
                    format!("res_unit{unit}.{part}.{rest}")
                }
            };
            format!("block.{}.{part}", index - 1)
        }
        _ => return None,
    };
    Some(format!("{stack}.{layer}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_diffusers() {
        for (old, new) in [
            ("encoder.layers.0.weight_g", "encoder.conv1.weight_g"),
            ("encoder.layers.1.layers.0.layers.0.alpha", "encoder.block.0.res_unit1.snake1.alpha"),
            ("encoder.layers.5.layers.2.layers.3.bias", "encoder.block.4.res_unit3.conv2.bias"),
            ("encoder.layers.5.layers.3.beta", "encoder.block.4.snake1.beta"),
            ("encoder.layers.5.layers.4.weight_v", "encoder.block.4.conv1.weight_v"),
            ("encoder.layers.6.alpha", "encoder.snake1.alpha"),
            ("encoder.layers.7.bias", "encoder.conv2.bias"),
            ("decoder.layers.2.layers.0.alpha", "decoder.block.1.snake1.alpha"),
            ("decoder.layers.2.layers.1.weight_g", "decoder.block.1.conv_t1.weight_g"),
            ("decoder.layers.2.layers.4.layers.1.bias", "decoder.block.1.res_unit3.conv1.bias"),
            ("decoder.layers.7.weight_v", "decoder.conv2.weight_v"),
        ] {
            assert_eq!(renamed(old, 5).as_deref(), Some(new));
        }
        for unknown in
            ["encoder.layers.8.bias", "bottleneck.x", "encoder.layers.x.bias", "encoder.layers.1.layers.0.bias"]
        {
            assert_eq!(renamed(unknown, 5), None, "{unknown}");
        }
    }
}
