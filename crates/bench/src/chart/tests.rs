use super::*;

fn chart(lines: &[(&str, &[(f64, f64)])]) -> Chart {
    let line = |(name, points): &(&str, &[(f64, f64)])| Line {
        name: (*name).to_owned(),
        points: points.iter().map(|&(x, y)| Place { x, y, spread: Some([y * 0.9, y * 1.1]) }).collect(),
    };
    Chart { title: "a < b & \"c\"".into(), against: "clients".into(), lines: lines.iter().map(line).collect() }
}

/// Every attribute of that name.
fn numbers(svg: &str, attribute: &str) -> Vec<f64> {
    let start = format!(" {attribute}=\"");
    svg.match_indices(&start)
        .map(|(at, _)| svg[at + start.len()..].split('"').next().unwrap().parse().unwrap())
        .collect()
}

/// Tags are closed in the order in which they were opened, and text holds none.
fn assert_well_formed(svg: &str) {
    let mut open = Vec::new();
    for part in svg.split('<').skip(1) {
        let (tag, text) = part.split_once('>').expect("a tag that is not closed");
        assert!(!text.contains('>'), "{text}");
        let name = tag.split(' ').next().unwrap();
        match name.strip_prefix('/') {
            Some(name) => assert_eq!(open.pop(), Some(name)),
            None if tag.ends_with('/') => assert_eq!(tag.matches('"').count() % 2, 0, "{tag}"),
            None => open.push(name),
        }
    }
    assert!(open.is_empty(), "{open:?}");
    assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
}

#[test]
fn a_chart_is_well_formed_and_within_its_frame() {
    let svg = chart(&[
        ("Stentor", &[(1.0, 2_000.0), (10.0, 15_000.0), (8_000.0, 40_000.0)]),
        ("etcd", &[(1.0, 1_500.0), (10.0, 9_000.0), (8_000.0, 14_000.0)]),
    ])
    .svg(|value| format!("{value:.0}/s"));
    assert_well_formed(&svg);
    assert!(svg.contains("a &lt; b &amp; &quot;c&quot;"));
    assert!(svg.contains(">10,000<") && svg.contains(">Stentor<") && svg.contains("/s<"), "{svg}");
    assert_eq!(svg.matches("<polyline").count(), 2);
    assert_eq!(numbers(&svg, "cx").len(), 8, "three points and a legend each");
    for (attributes, most) in [(["x1", "x2", "cx"], WIDTH), (["y1", "y2", "cy"], HEIGHT)] {
        let all = attributes.iter().flat_map(|name| numbers(&svg, name));
        assert!(all.into_iter().all(|at| (0.0..=most).contains(&at)), "{svg}");
    }
}

#[test]
fn more_lies_further_right_and_higher() {
    let svg = chart(&[("Stentor", &[(1.0, 10.0), (100.0, 30.0)])]).svg(|value| value.to_string());
    let (x, y) = (numbers(&svg, "cx"), numbers(&svg, "cy"));
    assert!(x[2] > x[1] && y[2] < y[1], "{x:?} {y:?}");
}

#[test]
fn nothing_to_draw_is_no_panic() {
    for lines in [&[][..], &[("Stentor", &[][..])], &[("Stentor", &[(0.0, 1.0)])], &[("Stentor", &[(1.0, 0.0)])]] {
        assert_well_formed(&chart(lines).svg(|value| value.to_string()));
    }
}

#[test]
fn axes_fit_their_values() {
    let near = Axis::of([3.0, 42.0].into_iter());
    assert_eq!((near.low, near.high, near.logarithmic), (0.0, 45.0, false));
    assert_eq!(near.ticks().len(), 10);
    let wide = Axis::of([90.0, 20_000.0].into_iter());
    assert_eq!(wide.ticks(), [10.0, 100.0, 1_000.0, 10_000.0, 100_000.0]);
    assert_eq!(Axis::powers([1.0, 8_000.0].into_iter()).ticks(), [1.0, 10.0, 100.0, 1_000.0, 10_000.0]);
    assert_eq!(Axis::powers([10.0].into_iter()).ticks(), [10.0, 100.0], "one value has an axis too");
    assert!((wide.share(1_000.0) - 0.5).abs() < 1e-9);
}

#[test]
fn thousands_are_apart() {
    assert_eq!([1.0, 100.0, 1_000.0, 1_234_567.0].map(grouped), ["1", "100", "1,000", "1,234,567"]);
}
