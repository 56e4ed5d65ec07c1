//! Sections of the page.

use std::fmt::Write;

use anyhow::Result;
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::Value;

use super::{
    clips::{self, Budget},
    folder::{Drawing, MOST_ROWS, Picture, Run, Table},
};

/// Elements of a list of the record that are shown one by one.
const MOST_ENTRIES: usize = 20;
/// Keys of the record that come first, in this order.
const FIRST: [&str; 5] = ["command", "version", "settings", "model", "device"];

/// `text` as it stands between tags and in quoted attributes.
pub(super) fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            // No page may hold it, escaped or not.
            '\0' => safe.push('\u{fffd}'),
            letter => safe.push(letter),
        }
    }
    safe
}

/// A file as an address that holds it.
pub(super) fn data(kind: &str, bytes: &[u8]) -> String {
    format!("data:{kind};base64,{}", STANDARD.encode(bytes))
}

/// Links to the sections.
pub(super) fn contents(runs: &[Run], models: bool) -> String {
    let mut items = String::new();
    if models {
        items.push_str("<li><a href=\"#models\">models by size</a></li>");
    }
    for (index, run) in runs.iter().enumerate() {
        let _ =
            write!(items, "<li><a href=\"#run-{index}\">{}: {}</a></li>", escaped(run.command()), escaped(&run.name));
        for (part, name, there) in [
            ("figures", "figures", !run.drawings.is_empty()),
            ("audio", "sounds", !run.clips.is_empty()),
            ("tables", "tables", !run.tables.is_empty()),
            ("made", "how it was made", true),
        ] {
            if there {
                let _ = write!(items, "<li><a href=\"#run-{index}-{part}\">{name}</a></li>");
            }
        }
    }
    format!("<nav aria-label=\"Contents\"><ul>{items}</ul></nav>\n")
}

/// What is about several models, before all folders.
pub(super) fn models(drawing: &Drawing) -> String {
    let shown = figure(drawing);
    format!(
        "<section id=\"models\" aria-labelledby=\"models-name\">\n<h2 id=\"models-name\">Models by size</h2>\n\
         <div class=\"figures\">\n{shown}</div>\n</section>\n"
    )
}

/// All about one folder.
pub(super) fn section(index: usize, run: &Run, budget: &mut Budget) -> Result<String> {
    let mut html = format!(
        "<section id=\"run-{index}\" aria-labelledby=\"run-{index}-name\">\n<h2 id=\"run-{index}-name\">{}: {}</h2>\n",
        escaped(run.command()),
        escaped(&run.name)
    );
    for notice in &run.notices {
        html.push_str(&notice_box(notice));
    }
    if !run.drawings.is_empty() {
        let _ = write!(html, "<h3 id=\"run-{index}-figures\">Figures</h3>\n<div class=\"figures\">\n");
        run.drawings.iter().for_each(|drawing| html.push_str(&figure(drawing)));
        html.push_str("</div>\n");
    }
    if !run.clips.is_empty() {
        let _ = write!(html, "<h3 id=\"run-{index}-audio\">Sounds</h3>\n{}", clips::section(&run.clips, budget)?);
    }
    if !run.tables.is_empty() {
        let _ = writeln!(html, "<h3 id=\"run-{index}-tables\">Tables</h3>");
        run.tables.iter().for_each(|shown| html.push_str(&table(shown)));
    }
    let _ = write!(html, "<h3 id=\"run-{index}-made\">How it was made</h3>\n{}", facts(run));
    html.push_str("</section>\n");
    Ok(html)
}

/// Something that the reader has to know.
pub(super) fn notice_box(text: &str) -> String {
    format!("<p class=\"notice\" role=\"note\">{}</p>\n", escaped(text))
}

/// The record of a run: what is short in one table, every object of its own to be opened.
fn facts(run: &Run) -> String {
    let key_order = |key: &str| FIRST.iter().position(|first| *first == key).unwrap_or(FIRST.len());
    let mut keys: Vec<&String> = run.record.keys().filter(|key| *key != "pieces").collect();
    keys.sort_by_key(|key| key_order(key));
    let (mut short, mut long) = (vec![], String::new());
    for key in keys {
        let value = &run.record[key];
        let mut rows = vec![];
        flatten("", value, &mut rows);
        if value.is_object() || value.is_array() && rows.len() > 1 {
            let open = if key == "settings" { " open" } else { "" };
            let _ =
                writeln!(long, "<details{open}><summary>{}</summary>{}</details>", escaped(key), facts_table(&rows));
        } else {
            flatten(key, value, &mut short);
        }
    }
    let short =
        if short.is_empty() { String::new() } else { format!("<div class=\"card\">{}</div>\n", facts_table(&short)) };
    short + &long
}

fn facts_table(rows: &[(String, String)]) -> String {
    let mut html = String::from("<div class=\"scroll\"><table class=\"facts\"><tbody>\n");
    for (key, value) in rows {
        let _ = writeln!(html, "<tr><th scope=\"row\">{}</th><td>{}</td></tr>", escaped(key), escaped(value));
    }
    html + "</tbody></table></div>"
}

/// Names and values of all that is in `value`.
fn flatten(name: &str, value: &Value, rows: &mut Vec<(String, String)>) {
    let below = |key: &str| if name.is_empty() { key.to_owned() } else { format!("{name} · {key}") };
    let plain = |value: &Value| match value {
        Value::Null => "none".to_owned(),
        Value::Bool(yes) => if *yes { "yes" } else { "no" }.to_owned(),
        Value::String(text) => text.clone(),
        value => value.to_string(),
    };
    match value {
        Value::Object(map) if !map.is_empty() => map.iter().for_each(|(key, value)| flatten(&below(key), value, rows)),
        Value::Array(list) if list.iter().any(|value| value.is_object() || value.is_array()) => {
            for (index, value) in list.iter().take(MOST_ENTRIES).enumerate() {
                flatten(&below(&(index + 1).to_string()), value, rows);
            }
            if list.len() > MOST_ENTRIES {
                rows.push((name.to_owned(), format!("{} more in run.json", list.len() - MOST_ENTRIES)));
            }
        }
        Value::Array(list) if list.len() > 4 * MOST_ENTRIES => {
            rows.push((name.to_owned(), format!("{} values in run.json", list.len())));
        }
        Value::Array(list) => rows.push((name.to_owned(), list.iter().map(plain).collect::<Vec<_>>().join(", "))),
        Value::Object(_) => rows.push((name.to_owned(), "empty".to_owned())),
        value => rows.push((name.to_owned(), plain(value))),
    }
}

/// A drawing with its caption and its files. SVG is shown as an image, where it can neither run nor load anything.
fn figure(drawing: &Drawing) -> String {
    let name = escaped(&drawing.name);
    let caption = escaped(if drawing.caption.is_empty() { &drawing.name } else { &drawing.caption });
    let (extension, shown, kind, bytes) = match &drawing.picture {
        Picture::Svg(bytes) => ("svg", "SVG", "image/svg+xml", bytes),
        Picture::Gif(bytes) => ("gif", "GIF", "image/gif", bytes),
    };
    let picture = data(kind, bytes);
    let mut links = vec![format!("<a download=\"{name}.{extension}\" href=\"{picture}\">{shown}</a>")];
    let offered = [("png", "PNG", "image/png", &drawing.png), ("csv", "data (CSV)", "text/csv", &drawing.csv)];
    for (extension, shown, kind, bytes) in offered {
        if let Some(bytes) = bytes {
            links.push(format!("<a download=\"{name}.{extension}\" href=\"{}\">{shown}</a>", data(kind, bytes)));
        }
    }
    format!(
        "<figure class=\"card\"><img src=\"{picture}\" alt=\"{caption}\">\n\
         <figcaption>{caption} <span class=\"soft\">Download: {}</span></figcaption></figure>\n",
        links.join(", ")
    )
}

fn table(table: &Table) -> String {
    let name = escaped(&table.name);
    let size = if table.total > table.rows.len() {
        format!("the first {MOST_ROWS} of {} rows", table.total)
    } else if table.total == 1 {
        "1 row".to_owned()
    } else {
        format!("{} rows", table.total)
    };
    let mut html = format!(
        "<details><summary>{name} <span class=\"soft\">{size}</span></summary>\n\
         <div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"{name}\"><table class=\"data\"><thead><tr>"
    );
    for heading in &table.header {
        let _ = write!(html, "<th scope=\"col\"><button type=\"button\">{}</button></th>", escaped(heading));
    }
    html.push_str("</tr></thead><tbody>\n");
    for row in &table.rows {
        html.push_str("<tr>");
        for cell in row {
            let class = if cell.parse::<f64>().is_ok() { " class=\"number\"" } else { "" };
            let _ = write!(html, "<td{class}>{}</td>", escaped(cell));
        }
        html.push_str("</tr>\n");
    }
    html + "</tbody></table></div></details>\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_becomes_markup() {
        assert_eq!(escaped(r#"<b a="1" c='2'>&amp;"#), "&lt;b a=&quot;1&quot; c=&#39;2&#39;&gt;&amp;amp;");
    }

    #[test]
    fn records_become_rows() {
        let value = serde_json::json!({
            "guidance": 3.0, "layers": [1, 12, 24], "seed": null, "greedy": false,
            "sampling": {"top_k": 250}, "edits": [{"do": "add"}, {"do": "zero"}], "many": vec![0; 100], "none": [],
        });
        let mut rows = vec![];
        flatten("", &value, &mut rows);
        let row = |key: &str| rows.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str());
        assert_eq!(row("guidance"), Some("3.0"));
        assert_eq!(row("layers"), Some("1, 12, 24"));
        assert_eq!(row("seed"), Some("none"));
        assert_eq!(row("greedy"), Some("no"));
        assert_eq!(row("sampling · top_k"), Some("250"));
        assert_eq!(row("edits · 2 · do"), Some("zero"));
        assert_eq!(row("many"), Some("100 values in run.json"));
        assert_eq!(row("none"), Some(""));
    }
}
