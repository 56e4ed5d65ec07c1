//! How far apart the layers are.

/// Euclidean distance between every two of the vectors in `streams`: `[layer][layer]`.
///
/// The paper takes the residual stream after every layer, averaged over time, and means the distances over prompts.
///
/// # Panics
/// If the vectors differ in length.
pub fn self_similarity(streams: &[Vec<f32>]) -> Vec<Vec<f64>> {
    let distance = |a: &[f32], b: &[f32]| {
        assert_eq!(a.len(), b.len(), "streams of one width");
        let square = |(a, b): (&f32, &f32)| (f64::from(*a) - f64::from(*b)).powi(2);
        a.iter().zip(b).map(square).sum::<f64>().sqrt()
    };
    streams.iter().map(|a| streams.iter().map(|b| distance(a, b)).collect()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_euclidean_and_symmetric() {
        let distances = self_similarity(&[vec![0.0, 0.0], vec![3.0, 4.0]]);
        assert_eq!(distances, [[0.0, 5.0], [5.0, 0.0]]);
    }
}
