//! Numbers of a configuration: every kind has a range, which is checked where the number is read.
//!
//! A field names its kind: `#[serde(deserialize_with = "ranges::width")]`. So no number outside its range reaches a
//! model, where it would divide by zero, overflow or allocate without bound. The ranges are wider than any published
//! model; the tensors of a file bound the same numbers more tightly when they are loaded.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{Error, Visitor},
};

/// More samples than any model makes or hears in one piece: 25 minutes at 44.1 kHz.
pub(crate) const MOST_SAMPLES: usize = 1 << 26;

/// A kind of number.
pub(crate) trait Kind {
    /// Smallest and largest number of this kind.
    const RANGE: [u64; 2];
}

/// A kind of number with a fraction.
pub(crate) trait Fraction {
    /// Smallest and largest number of this kind.
    const RANGE: [f64; 2];
    /// Whether the smallest number itself is one.
    const CLOSED: bool;
}

/// A whole number of one kind.
struct Whole<K>(u64, PhantomData<K>);

/// A number with a fraction of one kind.
struct Real<K>(f64, PhantomData<K>);

/// What the numbers of a field are kept in: one number, several, or none.
pub(crate) trait Held<K>: Sized {
    /// Reads the field.
    fn read<'de, D: Deserializer<'de>>(from: D) -> Result<Self, D::Error>;
}

impl<'de, K: Kind> Deserialize<'de> for Whole<K> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(WholeVisitor(PhantomData))
    }
}

struct WholeVisitor<K>(PhantomData<K>);

impl<K: Kind> WholeVisitor<K> {
    fn outside<E: Error>(found: impl fmt::Display) -> E {
        let [least, most] = K::RANGE;
        E::custom(format!("found {found}, expected a whole number from {least} to {most}"))
    }
}

impl<K: Kind> Visitor<'_> for WholeVisitor<K> {
    type Value = Whole<K>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [least, most] = K::RANGE;
        write!(f, "a whole number from {least} to {most}")
    }

    fn visit_u64<E: Error>(self, found: u64) -> Result<Self::Value, E> {
        let [least, most] = K::RANGE;
        if (least..=most).contains(&found) { Ok(Whole(found, PhantomData)) } else { Err(Self::outside(found)) }
    }

    fn visit_i64<E: Error>(self, found: i64) -> Result<Self::Value, E> {
        u64::try_from(found).map_or_else(|_| Err(Self::outside(found)), |found| self.visit_u64(found))
    }

    fn visit_f64<E: Error>(self, found: f64) -> Result<Self::Value, E> {
        // Some writers turn every number into one with a fraction.
        let is_whole = found.fract() == 0.0 && (0.0..9e15).contains(&found);
        if is_whole { self.visit_u64(found as u64) } else { Err(Self::outside(found)) }
    }
}

impl<'de, K: Fraction> Deserialize<'de> for Real<K> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let found = f64::deserialize(from)?;
        let [least, most] = K::RANGE;
        let inside = (least..=most).contains(&found) && (K::CLOSED || found > least);
        if inside {
            return Ok(Self(found, PhantomData));
        }
        let from = if K::CLOSED { "from" } else { "above" };
        Err(D::Error::custom(format!("found {found}, expected a number {from} {least} and up to {most}")))
    }
}

impl<K: Kind> Held<K> for usize {
    fn read<'de, D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Ok(Whole::<K>::deserialize(from)?.0 as usize)
    }
}

impl<K: Kind> Held<K> for u32 {
    fn read<'de, D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Ok(Whole::<K>::deserialize(from)?.0 as u32)
    }
}

impl<K: Kind> Held<K> for Option<usize> {
    fn read<'de, D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Ok(Option::<Whole<K>>::deserialize(from)?.map(|number| number.0 as usize))
    }
}

impl<K: Kind> Held<K> for Vec<usize> {
    fn read<'de, D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Ok(Vec::<Whole<K>>::deserialize(from)?.into_iter().map(|number| number.0 as usize).collect())
    }
}

/// One number for both axes, or one for each.
impl<K: Kind> Held<K> for [usize; 2] {
    fn read<'de, D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Axes {
            Equal(serde_json::Number),
            Each([serde_json::Number; 2]),
        }
        let axes = match Axes::deserialize(from)? {
            Axes::Equal(both) => [both.clone(), both],
            Axes::Each(each) => each,
        };
        let number = |of: &serde_json::Number| {
            Whole::<K>::deserialize(of).map(|number| number.0 as usize).map_err(D::Error::custom)
        };
        Ok([number(&axes[0])?, number(&axes[1])?])
    }
}

impl<K: Fraction> Held<K> for f64 {
    fn read<'de, D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Ok(Real::<K>::deserialize(from)?.0)
    }
}

impl<K: Fraction> Held<K> for Option<f64> {
    fn read<'de, D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Ok(Option::<Real<K>>::deserialize(from)?.map(|number| number.0))
    }
}

impl<K: Fraction> Held<K> for Vec<f64> {
    fn read<'de, D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Ok(Vec::<Real<K>>::deserialize(from)?.into_iter().map(|number| number.0).collect())
    }
}

macro_rules! whole {
    ($($(#[$doc:meta])* $name:ident, $kind:ident: $range:expr;)+) => {$(
        $(#[$doc])*
        pub(crate) struct $kind;
        impl Kind for $kind { const RANGE: [u64; 2] = $range; }
        $(#[$doc])*
        pub(crate) fn $name<'de, D: Deserializer<'de>, T: Held<$kind>>(from: D) -> Result<T, D::Error> { T::read(from) }
    )+};
}

macro_rules! fractions {
    ($($(#[$doc:meta])* $name:ident, $kind:ident: $range:expr, $closed:expr;)+) => {$(
        $(#[$doc])*
        pub(crate) struct $kind;
        impl Fraction for $kind { const RANGE: [f64; 2] = $range; const CLOSED: bool = $closed; }
        $(#[$doc])*
        pub(crate) fn $name<'de, D: Deserializer<'de>, T: Held<$kind>>(from: D) -> Result<T, D::Error> { T::read(from) }
    )+};
}

whole! {
    /// Width of a layer: features, channels or bands.
    width, Width: [1, 1 << 17];
    /// Number of parts that are computed one after another: layers, blocks, heads, codebooks.
    count, Count: [1, 1024];
    /// Heads of attention; 0 where they are not known.
    heads, Heads: [0, 1024];
    /// Rows of a table: tokens, codes, positions, classes.
    entries, Entries: [1, 1 << 24];
    /// An index of a row of a table.
    index, Index: [0, (1 << 24) - 1];
    /// A kernel, stride or dilation: steps of a signal.
    ratio, Ratio: [1, 4096];
    /// Tokens that a text may have.
    tokens, Tokens: [1, 4096];
    /// Steps of a signal that a model makes in one piece.
    length, Length: [1, 1 << 16];
    /// Samples under a window, or between two.
    window, Window: [1, 1 << 16];
    /// Samples between two frames; 0 is told of with what it makes impossible.
    hop, Hop: [0, 1 << 16];
    /// Samples of a sound.
    samples, Samples: [1, MOST_SAMPLES as u64];
    /// Samples per second.
    rate, Rate: [1, 768_000];
    /// Seconds of a sound.
    seconds, Seconds: [1, 3600];
    /// Milliseconds of a sound.
    milliseconds, Milliseconds: [1, 3_600_000];
}

fractions! {
    /// Added under a root, so that nothing is divided by zero.
    epsilon, Epsilon: [0.0, 1.0], false;
    /// A width over another one.
    factor, Factor: [0.0, 1024.0], false;
    /// Kilobits per second.
    bandwidth, Bandwidth: [0.0, 1e6], true;
    /// A frequency in Hz.
    frequency, Frequency: [0.0, 384_000.0], true;
    /// A level of noise or a deviation.
    level, Level: [0.0, 1e9], false;
    /// A bound that is not a size, such as seconds that a condition is clamped to.
    bound, Bound: [-1e9, 1e9], true;
}

#[cfg(test)]
mod tests {
    use crate::checkpoint::parse_json;

    #[derive(Debug, PartialEq, serde::Deserialize)]
    struct Config {
        #[serde(deserialize_with = "super::width")]
        width: usize,
        #[serde(default, deserialize_with = "super::ratio")]
        strides: Vec<usize>,
        #[serde(default, deserialize_with = "super::ratio")]
        patch: [usize; 2],
        #[serde(default, deserialize_with = "super::epsilon")]
        epsilon: Option<f64>,
    }

    fn read(text: &str) -> Result<Config, String> {
        parse_json("config.json".as_ref(), text.as_bytes()).map_err(|error| error.to_string())
    }

    #[test]
    fn numbers_within_their_range_are_read_in_every_form() {
        let text = r#"{"width": 64.0, "strides": [8, 5], "patch": 4, "epsilon": 1e-6}"#;
        let expected = Config { width: 64, strides: vec![8, 5], patch: [4, 4], epsilon: Some(1e-6) };
        assert_eq!(read(text), Ok(expected));
        let absent = r#"{"width": 1, "strides": null, "patch": [1, 2], "epsilon": null}"#;
        assert_eq!(read(absent), Ok(Config { width: 1, strides: vec![], patch: [1, 2], epsilon: None }));
    }

    #[test]
    fn a_number_outside_its_range_is_told_with_its_field_and_file() {
        for (text, said) in [
            (r#"{"width": 0}"#, "`config.json`: `width`: found 0, expected a whole number from 1 to 131072"),
            (r#"{"width": -3}"#, "`config.json`: `width`: found -3, expected a whole number from 1 to 131072"),
            (r#"{"width": 1.5}"#, "`config.json`: `width`: found 1.5, expected a whole number from 1 to 131072"),
            (
                r#"{"width": 18446744073709551616}"#,
                "`config.json`: `width`: found 18446744073709552000, expected a whole number from 1 to 131072",
            ),
            (
                r#"{"width": 1, "strides": [8, 0]}"#,
                "`config.json`: `strides[1]`: found 0, expected a whole number from 1 to 4096",
            ),
            (
                r#"{"width": 1, "patch": [4, 5000]}"#,
                "`config.json`: `patch`: found 5000, expected a whole number from 1 to 4096",
            ),
            (
                r#"{"width": 1, "epsilon": 0}"#,
                "`config.json`: `epsilon`: found 0, expected a number above 0 and up to 1",
            ),
            (r#"{"epsilon": 0.5}"#, "`config.json`: missing field `width`"),
        ] {
            assert_eq!(read(text), Err(said.to_owned()));
        }
    }
}
