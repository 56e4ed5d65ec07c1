use super::{
    scene::{Area, Scene, Shape},
    *,
};
use crate::png;

fn wave(i: usize, j: usize) -> f64 {
    ((i * 37 + j * 101 + 7) as f64).sin()
}

fn names(count: usize) -> Vec<String> {
    (1..=count).map(|index| index.to_string()).collect()
}

fn lines(panels: usize, series: usize, layers: usize) -> LinePlot {
    let point = |l: usize, s: usize| (l as f64, wave(l, s), Some((wave(l, s) - 0.2, wave(l, s) + 0.3)));
    let line = |s: usize| Series { name: format!("concept {s}"), points: (1..=layers).map(|l| point(l, s)).collect() };
    let panel = |p: usize| Panel { title: format!("panel {p}"), series: (0..series).map(line).collect() };
    LinePlot {
        name: "lines".to_owned(),
        caption: "Lines.".to_owned(),
        x_label: "decoder layers used".to_owned(),
        y_label: "recognisability (NDCG)".to_owned(),
        panels: (0..panels).map(panel).collect(),
        y_from_zero: true,
        reference_lines: vec![ReferenceLine { name: "chance".to_owned(), value: 0.1 }],
    }
}

fn map(panels: usize, rows: usize, columns: usize) -> HeatMap {
    let values = || (0..rows).map(|i| (0..columns).map(|j| wave(i, j)).collect()).collect();
    HeatMap {
        name: "map".to_owned(),
        x_label: "layer".to_owned(),
        y_label: "layer".to_owned(),
        x_ticks: names(columns),
        y_ticks: names(rows),
        scale: Scale::Diverging,
        value_label: "effect (nats)".to_owned(),
        panels: (0..panels).map(|p| HeatPanel { title: format!("panel {p}"), values: values() }).collect(),
        ..HeatMap::default()
    }
}

fn bars(panels: usize, series: usize, groups: usize) -> BarPlot {
    let value = |g: usize, s: usize| (wave(g, s), Some((wave(g, s) - 0.2, wave(g, s) + 0.3)));
    let bar = |s: usize| BarSeries { name: format!("site {s}"), values: (0..groups).map(|g| value(g, s)).collect() };
    let panel = |p: usize| BarPanel { title: format!("panel {p}"), series: (0..series).map(bar).collect() };
    BarPlot {
        name: "bars".to_owned(),
        x_label: "pair".to_owned(),
        y_label: "effect (nats)".to_owned(),
        groups: (0..groups).map(|g| format!("from concept {g}")).collect(),
        panels: (0..panels).map(panel).collect(),
        ..BarPlot::default()
    }
}

fn points(count: usize) -> ScatterPlot {
    let point = |i: usize| ScatterPoint {
        label: format!("layer {i}"),
        group: ["replace", "adjust"][i % 2].to_owned(),
        size: ["small", "medium", "large"][i % 3].to_owned(),
        x: wave(i, 1),
        y: wave(i, 2),
        x_interval: Some((wave(i, 1) - 0.1, wave(i, 1) + 0.1)),
        y_interval: Some((wave(i, 2) - 0.1, wave(i, 2) + 0.1)),
    };
    ScatterPlot {
        name: "points".to_owned(),
        x_label: "precision (nats)".to_owned(),
        y_label: "effect (nats)".to_owned(),
        points: (0..count).map(point).collect(),
        ..ScatterPlot::default()
    }
}

/// Text that leaves the figure or covers other text.
fn collisions(scene: &Scene) -> Vec<String> {
    let texts: Vec<(&str, Area)> = scene
        .shapes
        .iter()
        .filter_map(|shape| if let Shape::Text(text) = shape { Some((text.line.as_str(), text.area())) } else { None })
        .collect();
    assert!(texts.len() > 3, "{texts:?}");
    let all = Area { left: 0.0, top: 0.0, width: scene.width, height: scene.height };
    let outside = texts.iter().filter(|(_, area)| !all.contains(area)).map(|(text, _)| format!("`{text}` is outside"));
    let mut found: Vec<String> = outside.collect();
    for (index, (text, area)) in texts.iter().enumerate() {
        let covered = texts[..index].iter().filter(|(_, other)| area.overlaps(other));
        found.extend(covered.map(|(other, _)| format!("`{text}` covers `{other}`")));
    }
    found
}

fn size_of(file: &[u8]) -> (u32, u32, Option<u32>) {
    let image = png::decode(file);
    // Something is drawn on the white.
    let (pixels, white) = (&image.pixels, &image.pixels[..100]);
    assert!(pixels.iter().any(|value| *value < 128) && white.iter().all(|value| *value == 255));
    (image.width as u32, image.height as u32, image.per_metre)
}

fn rows(csv: &str) -> Vec<Vec<String>> {
    let mut reader = csv::Reader::from_reader(csv.as_bytes());
    reader.records().map(|row| row.unwrap().iter().map(str::to_owned).collect()).collect()
}

#[test]
fn no_text_covers_text_at_any_size() {
    for layers in [1, 2, 24, 48] {
        for (panels, series) in [(1, 1), (1, 10), (2, 4), (3, 6), (5, 3)] {
            let none: Vec<String> = vec![];
            assert_eq!(collisions(&lines(panels, series, layers).scene().unwrap()), none, "{panels} {series} {layers}");
            assert_eq!(collisions(&map(panels, layers, layers).scene().unwrap()), none, "{panels} {layers}");
            assert_eq!(collisions(&map(panels, 3, layers).scene().unwrap()), none, "{panels} {layers}");
            assert_eq!(collisions(&bars(panels, series, layers).scene().unwrap()), none, "{panels} {series} {layers}");
        }
        assert_eq!(collisions(&points(layers).scene().unwrap()), Vec::<String>::new(), "{layers}");
    }
}

#[test]
fn long_texts_stay_inside() {
    let long = "a rather long name for what is a small thing, in the hope that somebody reads it to its end";
    let mut plot = lines(3, 2, 24);
    (plot.x_label, plot.y_label) = (long.to_owned(), long.to_owned());
    plot.panels[1].title = long.to_owned();
    plot.panels[2].series[1].name = long.to_owned();
    assert_eq!(collisions(&plot.scene().unwrap()), Vec::<String>::new());
    let mut plot = map(2, 10, 10);
    (plot.x_label, plot.y_label, plot.value_label) = (long.to_owned(), long.to_owned(), long.to_owned());
    (plot.x_ticks[2], plot.y_ticks[3]) = (long.to_owned(), long.to_owned());
    assert_eq!(collisions(&plot.scene().unwrap()), Vec::<String>::new());
    let mut plot = bars(2, 2, 6);
    plot.groups[3] = long.to_owned();
    assert_eq!(collisions(&plot.scene().unwrap()), Vec::<String>::new());
}

#[test]
fn both_drawings_have_the_size_that_is_asked_for() {
    for figure in [lines(1, 2, 24).draw(), map(2, 3, 24).draw(), bars(1, 2, 4).draw(), points(6).draw()] {
        let figure = figure.unwrap();
        let (width, height, per_metre) = size_of(&figure.png);
        // 5 or 7 inches at 300 pixels, 11811 of them to the metre.
        assert!([1500, 2100].contains(&width) && height > 300, "{}: {width} × {height}", figure.name);
        assert_eq!(per_metre, Some(11_811));
        let size = format!(r#"width="{:.2}pt" height="{:.2}pt""#, f64::from(width) * 0.24, f64::from(height) * 0.24);
        assert!(figure.svg.starts_with("<svg ") && figure.svg.contains(&size), "{size}: {}", &figure.svg[..200]);
        assert!(figure.svg.trim_end().ends_with("</svg>") && figure.svg.contains("DejaVu Sans"));
    }
}

#[test]
fn the_csv_is_the_data() {
    let plot = lines(2, 3, 5);
    let found = rows(&plot.draw().unwrap().csv);
    assert_eq!(found.len(), 2 * 3 * 5);
    let (x, mean, interval) = plot.panels[1].series[2].points[3];
    let (low, high) = interval.unwrap();
    let expected = [
        "panel 1".to_owned(),
        "concept 2".to_owned(),
        x.to_string(),
        mean.to_string(),
        low.to_string(),
        high.to_string(),
    ];
    assert_eq!(found[5 * 3 + 2 * 5 + 3], expected);
    let plot = map(2, 3, 4);
    let found = rows(&plot.draw().unwrap().csv);
    let values: Vec<f64> = found.iter().map(|row| row[3].parse().unwrap()).collect();
    let expected: Vec<f64> = plot.panels.iter().flat_map(|panel| panel.values.iter().flatten()).copied().collect();
    assert_eq!(values, expected);
    assert_eq!(found[4 + 2][..3], ["panel 0", "2", "3"]);
    let found = rows(&bars(1, 2, 3).draw().unwrap().csv);
    assert_eq!(found[3][1..4], ["from concept 0".to_owned(), "site 1".to_owned(), wave(0, 1).to_string()]);
    let found = rows(&points(4).draw().unwrap().csv);
    assert_eq!(found[3][..4], ["adjust".to_owned(), "small".to_owned(), "layer 3".to_owned(), wave(3, 1).to_string()]);
}

#[test]
fn what_is_not_finite_is_a_gap() {
    for odd in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let mut plot = lines(1, 2, 6);
        plot.panels[0].series[0].points[2].1 = odd;
        plot.panels[0].series[1].points[3].2 = Some((odd, 1.0));
        plot.panels[0].series[1].points[4].0 = odd;
        plot.reference_lines[0].value = odd;
        assert!(plot.draw().unwrap().csv.contains(&odd.to_string()));
        let (mut plot, whole) = (map(1, 4, 4), map(1, 4, 4));
        plot.panels[0].values[1][2] = odd;
        let figure = plot.draw().unwrap();
        assert!(figure.csv.contains(&odd.to_string()));
        // The hatching is made of lines.
        let lines = |scene: Scene| scene.shapes.iter().filter(|shape| matches!(shape, Shape::Path { .. })).count();
        assert!(lines(plot.scene().unwrap()) > lines(whole.scene().unwrap()));
        let mut plot = bars(1, 2, 4);
        plot.panels[0].series[0].values[2] = (odd, Some((odd, odd)));
        assert!(plot.draw().unwrap().csv.contains(&odd.to_string()));
        let mut plot = points(5);
        plot.points[1].x = odd;
        plot.points[2].y_interval = Some((0.0, odd));
        assert!(plot.draw().unwrap().csv.contains(&odd.to_string()));
    }
}

#[test]
fn extreme_values_make_no_panic() {
    for factor in [0.0, 1e-300, 1e-20, 1e20, 1e307] {
        let mut plot = map(1, 3, 4);
        plot.panels[0].values.iter_mut().flatten().for_each(|value| *value *= factor);
        plot.draw().unwrap();
        plot.scale = Scale::Sequential;
        plot.draw().unwrap();
        let mut plot = bars(1, 2, 3);
        plot.panels[0].series[0].values.iter_mut().for_each(|value| *value = (value.0 * factor, None));
        plot.draw().unwrap();
    }
}

#[test]
fn what_is_missing_is_said() {
    let told = |result: Result<Figure>| result.unwrap_err().to_string();
    assert_eq!(told(lines(0, 0, 0).draw()), "figure `lines` has no panel");
    assert_eq!(told(lines(1, 0, 0).draw()), "figure `lines` has no series");
    assert_eq!(told(lines(1, 2, 0).draw()), "figure `lines` has no finite value in any series");
    assert_eq!(told(map(0, 2, 2).draw()), "figure `map` has no panel");
    assert_eq!(told(map(1, 0, 2).draw()), "figure `map` has 0 rows and 2 columns");
    assert_eq!(told(bars(1, 2, 0).draw()), "figure `bars` has no group of bars");
    assert_eq!(told(points(0).draw()), "figure `points` has no point");
    let mut ragged = map(2, 3, 4);
    ragged.panels[1].values[2].pop();
    assert_eq!(told(ragged.draw()), "panel `panel 1` of figure `map` is not 3 × 4");
    let mut empty = map(1, 2, 2);
    empty.panels[0].values = vec![vec![f64::NAN; 2]; 2];
    assert_eq!(told(empty.draw()), "figure `map` has no finite value in any panel");
}

#[test]
fn a_figure_is_written_whole() {
    let folder = tempfile::tempdir().unwrap();
    let figure = points(3).draw().unwrap();
    figure.write(folder.path()).unwrap();
    let read = |name: &str| std::fs::read(folder.path().join("figures").join(name)).unwrap();
    assert_eq!(read("points.svg"), figure.svg.as_bytes());
    assert_eq!(read("points.png"), figure.png);
    assert_eq!(read("points.csv"), figure.csv.as_bytes());
    assert_eq!(read("points.txt"), figure.caption.as_bytes());
    let outside = Figure { name: "../points".to_owned(), ..figure };
    assert!(outside.write(folder.path()).is_err());
}

#[test]
fn text_of_others_is_escaped_in_markup() {
    let mut plot = points(2);
    plot.points[0].label = "<a & b>".to_owned();
    let svg = plot.draw().unwrap().svg;
    assert!(svg.contains("&lt;a &amp; b&gt;") && !svg.contains("<a &"));
}
