//! Words and tempo of a text.

/// The words of `text` in lower case: letters and digits, with `'`, `&` and `-` between them, as in `r&b` and `lo-fi`.
pub(super) fn words(text: &str) -> Vec<String> {
    let letters: Vec<char> = text.to_lowercase().chars().map(|c| if c == '’' { '\'' } else { c }).collect();
    let mut words = vec![];
    let mut word = String::new();
    for (at, letter) in letters.iter().enumerate() {
        let joins = matches!(letter, '\'' | '&' | '-')
            && !word.is_empty()
            && letters.get(at + 1).is_some_and(|next| next.is_alphanumeric());
        if letter.is_alphanumeric() || joins {
            word.push(*letter);
        } else if !word.is_empty() {
            words.push(std::mem::take(&mut word));
        }
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

/// A piece of a text, as far as tempi are concerned.
#[derive(Debug, PartialEq)]
enum Token {
    Number(f64),
    Dash,
    Word(String),
}

/// Beats per minute that `text` asks for: the number at the first `BPM`, or behind `tempo`; the middle of a range; 0 if there
/// is none. Numbers that are no tempo, outside 20 to 400, do not count.
pub(super) fn bpm(text: &str) -> f64 {
    let tokens = tokens(text);
    let is_word = |at: usize, words: &[&str]| match tokens.get(at) {
        Some(Token::Word(word)) => words.contains(&word.as_str()),
        _ => false,
    };
    let mut named = (0..tokens.len()).filter(|at| is_word(*at, &["bpm"]));
    let found = named.find_map(|at| before(&tokens, at).or_else(|| after(&tokens, at)));
    let tempo = || (0..tokens.len()).filter(|at| is_word(*at, &["tempo"])).find_map(|at| after(&tokens, at));
    found.or_else(tempo).unwrap_or(0.0)
}

fn tempo_at(tokens: &[Token], at: usize) -> Option<f64> {
    match tokens.get(at)? {
        Token::Number(number) if (20.0..=400.0).contains(number) => Some(*number),
        _ => None,
    }
}

/// `120 BPM`, `120-BPM`, `90-130 BPM`, `between 90 and 130 BPM`.
fn before(tokens: &[Token], at: usize) -> Option<f64> {
    let mut end = at.checked_sub(1)?;
    if tokens[end] == Token::Dash {
        end = end.checked_sub(1)?;
    }
    let high = tempo_at(tokens, end)?;
    let ranges = match end.checked_sub(1).map(|at| &tokens[at]) {
        Some(Token::Dash) => true,
        Some(Token::Word(word)) => word == "to" || word == "and",
        _ => false,
    };
    let low = if ranges { end.checked_sub(2).and_then(|at| tempo_at(tokens, at)) } else { None };
    Some(low.map_or(high, |low| f64::midpoint(low, high)))
}

/// `BPM: 120`, `tempo of about 120`: a number behind at most two words.
fn after(tokens: &[Token], at: usize) -> Option<f64> {
    let next = (at + 1..at + 4).find(|at| !matches!(tokens.get(*at), Some(Token::Word(_) | Token::Dash)))?;
    tempo_at(tokens, next)
}

fn tokens(text: &str) -> Vec<Token> {
    let letters: Vec<char> = text.to_lowercase().chars().collect();
    let mut tokens = vec![];
    let mut at = 0;
    while at < letters.len() {
        let digit = |at: usize| letters.get(at).is_some_and(char::is_ascii_digit);
        let start = at;
        if digit(at) {
            while digit(at) || (letters[at..].first() == Some(&'.') && digit(at + 1)) {
                at += 1;
            }
            let number: String = letters[start..at].iter().collect();
            tokens.push(Token::Number(number.parse().unwrap_or(f64::INFINITY)));
        } else if letters[at].is_alphabetic() {
            while letters.get(at).is_some_and(|c| c.is_alphabetic()) {
                at += 1;
            }
            tokens.push(Token::Word(letters[start..at].iter().collect()));
        } else {
            if matches!(letters[at], '-' | '–' | '—' | '\u{2011}') {
                tokens.push(Token::Dash);
            }
            at += 1;
        }
    }
    tokens
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_keep_what_joins_them() {
        assert_eq!(words("A Lo-fi R&B—children’s 'song' - 808s!"), ["a", "lo-fi", "r&b", "children's", "song", "808s"]);
        assert_eq!(words(" -- ' & "), Vec::<String>::new());
        assert_eq!(words("Bodhrán"), ["bodhrán"]);
    }

    #[test]
    fn tempi_are_found_in_all_their_forms() {
        let cases = [
            ("drums at 90 BPM.", 90.0),
            ("at 128bpm", 128.0),
            ("a 92.5-BPM loop", 92.5),
            ("tempos between 90-130 BPM", 110.0),
            ("between 90 and 120 bpm", 105.0),
            ("BPM: 70", 70.0),
            ("a tempo of about 66", 66.0),
            ("a tempo of 75 BPM", 75.0),
            ("808 bass at 140 BPM, then 70 BPM", 140.0),
            ("5 drums BPM unknown", 0.0),
            ("the tempo is slow, 3 guitars", 0.0),
            ("tempo", 0.0),
            ("bpm", 0.0),
            ("- BPM", 0.0),
            ("99999999999999999999999999 BPM", 0.0),
            ("1.2.3 BPM", 0.0),
            ("", 0.0),
        ];
        for (text, expected) in cases {
            assert_eq!(bpm(text), expected, "{text}");
        }
    }
}
