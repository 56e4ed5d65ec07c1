//! safetensors files whose bytes depend on their content alone.

use std::collections::BTreeMap;

use safetensors::{SafeTensors, tensor::TensorView};

use super::LoadError;

/// A safetensors file. Unlike the file of the `safetensors` library, the same content gives the same bytes in every run:
/// the keys of its header are sorted.
///
/// # Errors
/// [`LoadError::Config`] if the tensors do not fit into a file, which takes more than 2⁶⁴ bytes.
pub fn sorted_safetensors(
    tensors: Vec<(&str, TensorView<'_>)>,
    metadata: BTreeMap<String, String>,
) -> Result<Vec<u8>, LoadError> {
    const PREFIX: usize = size_of::<u64>();
    let failed = |reason: String| LoadError::Config { path: "safetensors".into(), reason };
    let bytes = safetensors::serialize(tensors, Some(metadata.into_iter().collect()));
    let bytes = bytes.map_err(|error| failed(error.to_string()))?;
    let (len, _) = SafeTensors::read_metadata(&bytes).map_err(|error| failed(error.to_string()))?;
    let header: Result<serde_json::Value, _> = serde_json::from_slice(&bytes[PREFIX..PREFIX + len]);
    let header = header.and_then(|header| serde_json::to_vec(&header));
    let mut header = header.map_err(|error| failed(error.to_string()))?;
    header.resize(header.len().next_multiple_of(PREFIX), b' ');
    let mut sorted = (header.len() as u64).to_le_bytes().to_vec();
    sorted.append(&mut header);
    sorted.extend_from_slice(&bytes[PREFIX + len..]);
    Ok(sorted)
}

#[cfg(test)]
mod tests {
    use safetensors::Dtype;

    use super::*;

    #[test]
    fn the_same_content_is_the_same_bytes() {
        let make = || {
            let names: Vec<String> = (0..20).map(|index| format!("\u{fc}{index}")).collect();
            let bytes = [1, 2, 3, 4];
            let view = || TensorView::new(Dtype::F32, vec![1], &bytes).unwrap();
            let metadata = names.iter().map(|name| (name.clone(), "\n\"".to_owned())).collect();
            sorted_safetensors(names.iter().map(|name| (name.as_str(), view())).collect(), metadata).unwrap()
        };
        // A hash map's order is another one each time it is made.
        assert!((0..4).all(|_| make() == make()));
        let bytes = make();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!((file.len(), file.tensor("\u{fc}7").unwrap().data()), (20, &[1, 2, 3, 4][..]));
    }
}
