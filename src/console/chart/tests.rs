use super::*;

fn chart<'a>(columns: &'a [String], series: &'a [Series<'a>], scale: Scale) -> Chart<'a> {
    Chart {
        title: "Events",
        figure: html! { "3" },
        hint: html! {},
        summary: "Events by hour",
        columns,
        axis: &[],
        series,
        scale,
        size: Size::Half,
        empty: "No events yet",
    }
}

fn series<'a>(name: &'a str, values: &[Option<f64>]) -> Series<'a> {
    Series {
        name,
        mark: "k1",
        values: values.to_vec(),
    }
}

#[test]
fn the_top_is_round_and_no_lower_than_what_is_shown() {
    for (scale, least, expected) in [
        (Scale::Count, 0.0, 1.0),
        (Scale::Count, 1.0, 1.0),
        (Scale::Count, 1.2, 2.0),
        (Scale::Count, 2.2, 3.0),
        (Scale::Count, 7.0, 10.0),
        (Scale::Count, 10.0, 10.0),
        (Scale::Count, 10.1, 15.0),
        (Scale::Count, 70.0, 75.0),
        (Scale::Amount, 0.03, 0.03),
        (Scale::Amount, 1.2, 1.5),
        (Scale::Duration, 0.2, 1.0),
        (Scale::Duration, 1_205.0, 1_500.0),
        (Scale::Count, 987_654_321.0, 1e9),
    ] {
        let found = step(scale, least);
        assert!(
            (found - expected).abs() < expected * 1e-9,
            "{least}: {found}"
        );
    }
}

#[test]
fn bars_stand_upon_each_other() {
    let columns = ["10:00".to_owned(), "11:00".to_owned()];
    let rows = [
        series("first", &[Some(1.0), Some(3.0)]),
        series("then", &[Some(1.0), None]),
    ];
    let drawn = bars(&chart(&columns, &rows, Scale::Count)).into_string();
    // The top is 4: a quarter of 120 each.
    for part in [
        r#"height="30" width="196.8" x="21.6" y="90""#,
        r#"height="30" width="196.8" x="21.6" y="60""#,
        r#"height="90" width="196.8" x="261.6" y="30""#,
        "<title>10:00: 1 first, 1 then</title>",
        "<title>11:00: 3 first</title>",
        "<span>4</span><span>2</span><span>0</span>",
    ] {
        let flat = drawn.replace('\n', "");
        assert!(flat.contains(part), "{part} in {drawn}");
    }
}

#[test]
fn a_line_breaks_where_nothing_is_known() {
    let columns: Vec<_> = (0..5).map(|hour| format!("{hour}:00")).collect();
    let values = [Some(0.0), Some(2.0), None, Some(1.0), None];
    let rows = [series("p50", &values)];
    let drawn = lines(&chart(&columns, &rows, Scale::Duration)).into_string();
    assert!(drawn.contains("M0,120 L120,0 M336,60 H384"), "{drawn}");
    assert!(drawn.contains("<title>2:00: nothing</title>"), "{drawn}");
    assert!(drawn.contains("<title>3:00: p50 1 ms</title>"), "{drawn}");
}

#[test]
fn an_area_is_closed_at_the_bottom() {
    let columns = ["a".to_owned(), "b".to_owned(), "c".to_owned()];
    let rows = [series("wait", &[Some(4.0), None, Some(2.0)])];
    let drawn = area(&chart(&columns, &rows, Scale::Count)).into_string();
    let below = "M0,0 L240,120 L480,60 L480,120 L0,120 z";
    assert!(drawn.contains(below), "{drawn}");
}

#[test]
fn nothing_and_one_are_drawn_too() {
    let none = bars(&chart(&[], &[], Scale::Count)).into_string();
    assert!(none.contains("No events yet"), "{none}");
    let columns = ["now".to_owned()];
    for value in [None, Some(0.0), Some(-1.0), Some(f64::MAX)] {
        let rows = [series("x", &[value])];
        let chart = chart(&columns, &rows, Scale::Amount);
        for drawn in [bars(&chart), lines(&chart), area(&chart)] {
            let drawn = drawn.into_string();
            assert!(!drawn.contains("NaN") && !drawn.contains("inf"), "{drawn}");
            let has_words = drawn.contains("No events yet");
            assert_eq!(has_words, value.is_none_or(|value| value <= 0.0), "{drawn}");
        }
    }
}

#[test]
fn names_stay_text_wherever_they_stand() {
    let hostile = r#""><script>alert('1')</script>&amp;"#;
    let columns = [hostile.to_owned()];
    let rows = [series(hostile, &[Some(1.0)]), series("other", &[Some(1.0)])];
    let mut chart = chart(&columns, &rows, Scale::Count);
    chart.summary = hostile;
    chart.title = hostile;
    for drawn in [
        bars(&chart),
        lines(&chart),
        area(&chart),
        table("Hour", &[&chart]),
    ] {
        let drawn = drawn.into_string();
        assert!(
            !drawn.contains("<script") && !drawn.contains("=\"\">"),
            "{drawn}"
        );
    }
}

#[test]
fn numbers_are_written_as_people_do() {
    for (scale, value, expected) in [
        (Scale::Count, 21_192_840.0, "21,192,840"),
        (Scale::Amount, 182_904.5, "182,904.5"),
        (Scale::Amount, -1_000.0, "−1,000"),
        (Scale::Duration, 86.4, "86 ms"),
        (Scale::Duration, 1_210.0, "1.21 s"),
    ] {
        assert_eq!(scale.written(value), expected);
    }
    for (scale, value, top, expected) in [
        (Scale::Count, 7_500.0, 15_000.0, "7.5 k"),
        (Scale::Count, 750.0, 1_500.0, "750"),
        (Scale::Count, 1_500.0, 1_500.0, "1,500"),
        (Scale::Amount, 800_000.0, 1e6, "0.8 M"),
        (Scale::Duration, 1_500.0, 3_000.0, "1.5 s"),
        (Scale::Duration, 500.0, 500.0, "500 ms"),
        (Scale::Duration, 0.0, 500.0, "0"),
    ] {
        assert_eq!(scale.short(value, top), expected);
    }
}

#[test]
fn words_below_go_from_edge_to_edge() {
    let words = |columns: usize| {
        let columns: Vec<_> = (0..columns).collect();
        let words = axis(&columns, |_, column| html! { (column) });
        words
            .into_iter()
            .map(Markup::into_string)
            .collect::<Vec<_>>()
    };
    assert_eq!(words(24), ["0", "5", "11", "17", "23"]);
    assert_eq!(words(3), ["0", "1", "2"]);
    assert_eq!(words(1), ["0"]);
    assert!(words(0).is_empty());
}
