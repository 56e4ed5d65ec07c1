//! Texts in messages.

/// The beginning of a prompt, for messages.
pub fn shortened(prompt: &str) -> String {
    let mut text: String = prompt.chars().take(60).collect();
    if text.len() < prompt.len() {
        text.push('…');
    }
    text
}
