//! Which of its samples each text of a run is.

use std::collections::HashMap;

/// For each text, how many texts before it are the same. The number is part of the key of the random numbers, so that a
/// text that comes again becomes another piece.
///
/// ```
/// use tonoscope_core::models::occurrences;
///
/// assert_eq!(occurrences(["piano", "drums", "piano"]), [0, 0, 1]);
/// ```
pub fn occurrences<T: AsRef<str>>(texts: impl IntoIterator<Item = T>) -> Vec<u64> {
    let mut seen: HashMap<String, u64> = HashMap::new();
    let count = |text: T| {
        let times = seen.entry(text.as_ref().to_owned()).or_default();
        *times += 1;
        *times - 1
    };
    texts.into_iter().map(count).collect()
}
