//! Principal components.

use linfa_linalg::{
    eigh::{EigSort, EighInto},
    qr::QRInto,
};
use ndarray::{Array1, Array2, ArrayView2, Axis, s};

use super::{Features, ProbeError, products};

/// The directions in which rows differ most.
#[derive(Debug, Clone, PartialEq)]
pub struct Pca {
    /// Mean of every feature.
    pub mean: Vec<f64>,
    /// Directions of length 1, one row each, the most important first.
    pub components: Vec<Vec<f64>>,
    /// Variance along each of them, with one degree of freedom taken off.
    pub variance: Vec<f64>,
    /// Variance along all there are.
    pub total_variance: f64,
}

impl Pca {
    /// The first `count` components, as scikit-learn's `PCA(count)`: of the eigenvectors of the covariance; where a
    /// component could point either way, its largest entry is positive.
    ///
    /// # Errors
    /// [`ProbeError`] if a value is not a number, or there are fewer rows or features than components.
    pub fn fit(features: Features<'_>, count: usize) -> Result<Self, ProbeError> {
        features.check_finite()?;
        let (rows, width) = (features.rows(), features.width);
        if rows.min(width) < count || rows < 2 {
            return Err(ProbeError::Components { rows, width, wanted: count });
        }
        let mean = products::mean(features);
        let centred = Array2::from_shape_fn((rows, width), |(row, column)| {
            f64::from(features.values[row * width + column]) - mean[column]
        });
        let freedom = (rows - 1) as f64;
        let (values, vectors) = if width <= rows {
            largest(products::gram(centred.view()), count)?
        } else {
            // Of the rows' own products: the same values, and the components are sums of the rows.
            let (values, vectors) = largest(products::gram(centred.t().as_standard_layout().view()), count)?;
            let components = centred.t().dot(&vectors.slice(s![.., ..count]));
            (values, components)
        };
        let component = |index: usize| -> Vec<f64> {
            let column = vectors.column(index);
            let length = column.dot(&column).sqrt();
            let largest =
                column.iter().fold(0.0f64, |most, value| if value.abs() > most.abs() { *value } else { most });
            let by = if length > 0.0 { length.recip() * largest.signum() } else { 0.0 };
            column.iter().map(|value| value * by).collect()
        };
        let components = (0..count).map(component).collect();
        let variance = values.iter().take(count).map(|value| value.max(0.0) / freedom).collect();
        let total_variance = centred.iter().map(|value| value * value).sum::<f64>() / freedom;
        Ok(Self { mean, components, variance, total_variance })
    }

    /// Places of the rows along the components.
    ///
    /// # Shapes
    /// - result: one row per row, one number per component
    ///
    /// # Panics
    /// If the rows have another number of features.
    pub fn transform(&self, features: Features<'_>) -> Vec<Vec<f64>> {
        assert_eq!(features.width, self.mean.len(), "features of the rows and of the components");
        let along: Vec<Vec<f64>> = self
            .components
            .iter()
            .map(|component| {
                let offset: f64 = component.iter().zip(&self.mean).map(|(component, mean)| component * mean).sum();
                products::scores(features, component, -offset)
            })
            .collect();
        (0..features.rows()).map(|row| along.iter().map(|scores| scores[row]).collect()).collect()
    }

    /// Features at the given places along the components, in none of the other directions away from the mean.
    ///
    /// # Shapes
    /// - `places`: one number per component each; result: row-major, as many features as the mean has
    ///
    /// # Panics
    /// If a place has fewer numbers than there are components.
    pub fn inverse_transform(&self, places: &[Vec<f64>]) -> Vec<f32> {
        let count = self.components.len();
        let flat: Vec<f64> = places.iter().flat_map(|place| place.iter().take(count)).copied().collect();
        let components: Vec<f64> = self.components.concat();
        let shape = "as many numbers as there are components";
        let places = ArrayView2::from_shape((places.len(), count), &flat).expect(shape);
        let components = ArrayView2::from_shape((count, self.mean.len()), &components).expect(shape);
        let features = places.dot(&components);
        features
            .rows()
            .into_iter()
            .flat_map(|row| row.iter().zip(&self.mean).map(|(value, mean)| (value + mean) as f32).collect::<Vec<_>>())
            .collect()
    }
}

/// Columns that are turned together.
const BLOCK: usize = 24;
/// Turns before all eigenvectors are computed instead.
const TURNS: usize = 200;
/// What is left of a vector's own equation at the end, over the largest eigenvalue.
const LEFT: f64 = 1e-12;

/// The `count` largest eigenvalues of a symmetric matrix without negative ones, and their vectors as columns.
///
/// By orthogonal iteration, which needs few products where the first values stand out; where they do not, or the matrix
/// is small, from all of its eigenvectors.
///
/// # Source
/// Golub and Van Loan, "Matrix Computations", 2013, section 8.2.4.
fn largest(square: Array2<f64>, count: usize) -> Result<(Array1<f64>, Array2<f64>), ProbeError> {
    let solver = |error: linfa_linalg::LinalgError| ProbeError::Solver { reason: error.to_string() };
    let size = square.nrows();
    if size > 4 * BLOCK && count <= BLOCK / 2 {
        // Anything that is not orthogonal to what is sought.
        let mut columns = Array2::from_shape_fn((size, BLOCK), |(row, column)| {
            let mixed = ((row * BLOCK + column + 1) as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29);
            (mixed.wrapping_mul(0xBF58_476D_1CE4_E5B9) >> 40) as f64 / f64::from(1 << 24) - 0.5
        });
        for _ in 0..TURNS {
            let basis = columns.qr_into().map_err(solver)?.generate_q();
            let turned = square.dot(&basis);
            let (values, inside) = basis.t().dot(&turned).eigh_into().map_err(solver)?.sort_eig_desc();
            let vectors = basis.dot(&inside);
            columns = turned.dot(&inside);
            let left = (0..count).map(|index| {
                let error = &columns.column(index) - &(&vectors.column(index) * values[index]);
                error.dot(&error).sqrt()
            });
            if left.fold(0.0, f64::max) <= LEFT * values[0].max(f64::MIN_POSITIVE) {
                return Ok((values.slice(s![..count]).to_owned(), vectors.slice(s![.., ..count]).to_owned()));
            }
        }
    }
    let (values, vectors) = square.eigh_into().map_err(solver)?.sort_eig_desc();
    Ok((values.slice(s![..count]).to_owned(), vectors.select(Axis(1), &(0..count).collect::<Vec<_>>())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_give_the_same_components() {
        // Two directions of known size in many features, few rows.
        let (rows, width) = (30, 50);
        let value = |index: usize| {
            let (row, column) = (index / width, index % width);
            let (long, short) = ((row as f32 - 14.5), ((row * 7 % 30) as f32 - 14.5) * 0.3);
            long * ((column + 1) as f32 * 0.02) + if column % 2 == 0 { short } else { -short } + 5.0
        };
        let values: Vec<f32> = (0..rows * width).map(value).collect();
        let wide = Pca::fit(Features::new(&values, width), 2).unwrap();
        // The same rows many times over have the same components.
        let many: Vec<f32> = values.iter().copied().cycle().take(values.len() * 4).collect();
        let tall = Pca::fit(Features::new(&many, width), 2).unwrap();
        for (one, other) in wide.components.iter().zip(&tall.components) {
            assert!(one.iter().zip(other).all(|(one, other)| (one - other).abs() < 1e-6), "{one:?} {other:?}");
        }
        let features = Features::new(&values, width);
        let places = wide.transform(features);
        let back = wide.inverse_transform(&places);
        assert!(back.iter().zip(&values).all(|(back, value)| (back - value).abs() < 1e-3));
        let variance = places.iter().map(|place| place[0] * place[0]).sum::<f64>() / (rows - 1) as f64;
        assert!((variance / wide.variance[0] - 1.0).abs() < 1e-6);
    }

    #[test]
    fn turning_finds_what_all_eigenvectors_say() {
        let size = 150;
        // Values that fall by a tenth each; two of them are equal.
        let turn = Array2::from_shape_fn((size, size), |(row, column)| ((row * 37 + column * 61) % 101) as f64 - 50.0);
        let basis = turn.qr_into().unwrap().generate_q();
        let value = |index: usize| if index == 1 { 1.0 } else { 0.9f64.powi(index as i32) };
        let values = Array2::from_diag(&Array1::from_shape_fn(size, value));
        let half = basis.dot(&values);
        let square = half.dot(&half.t());
        let (found, vectors) = largest(square.clone(), 3).unwrap();
        for (index, want) in [1.0, 1.0, 0.81f64.powi(2)].into_iter().enumerate() {
            assert!((found[index] - want).abs() < 1e-10, "{found}");
            let error = square.dot(&vectors.column(index)) - &(&vectors.column(index) * found[index]);
            assert!(error.dot(&error).sqrt() < 1e-10);
        }
    }

    #[test]
    fn what_has_no_components_is_an_error() {
        let fit = |values: &[f32], width| Pca::fit(Features::new(values, width), 2).unwrap_err().to_string();
        assert_eq!(fit(&[1.0, 2.0, 3.0], 1), "2 components of 3 rows with 1 features");
        assert_eq!(fit(&[1.0, f32::NAN, 3.0, 4.0], 2), "feature 1 of row 0 is not a number");
    }
}
