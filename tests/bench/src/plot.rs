//! docs/benchmarks.svg: latency by percentile, and throughput.
//!
//! Drawn by plotters with its SVG backend alone, which needs no fonts. A style sheet put into its
//! output inverts background, text and grid on dark screens; the colours of the series suit both. The background is
//! drawn, so that the plot can be read on any page.

use anyhow::{Context, Result};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::latency::SMALL;
use crate::results::{LatencySeries, Results, milliseconds};
use crate::stage::{Function, System};

const SIZE: (u32, u32) = (960, 420);
const LEFT_WIDTH: u32 = 570;
const LEGEND_HEIGHT: u32 = 52;
const LEGEND_INDENT: i32 = 40;
const LEGEND_COLUMNS: [i32; 3] = [0, 160, 355];
const FONT: &str = "sans-serif";

const PAPER: RGBColor = RGBColor(0xFF, 0xFF, 0xFF);
const INK: RGBColor = RGBColor(0x1F, 0x23, 0x28);
const GRID: RGBColor = RGBColor(0xD1, 0xD9, 0xE0);

/// The attributes are those that plotters writes for the three colours above.
const STYLE: &str = r##"
<style>
text { font-family: system-ui, -apple-system, "Segoe UI", Helvetica, Arial, sans-serif; }
@media (prefers-color-scheme: dark) {
  [fill="#FFFFFF"] { fill: #0D1117; }
  [fill="#1F2328"] { fill: #E6EDF3; }
  [stroke="#1F2328"] { stroke: #E6EDF3; }
  [stroke="#D1D9E0"] { stroke: #3D444D; }
}
</style>
"##;

const QUANTILES: [(f64, &str); 4] = [(0.5, "p50"), (0.9, "p90"), (0.99, "p99"), (0.999, "p99.9")];

/// The ends of the latency chart's axis, on which the quantiles are at 0, 1, 2 and 3.
const LEFT: f64 = -0.2;
const RIGHT: f64 = 3.2;
const TICKS: [f64; 13] = [
    0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0,
];

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

pub(crate) fn render(results: &Results) -> Result<String> {
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        root.fill(&PAPER)?;
        let (left, right) = root.split_horizontally(LEFT_WIDTH);
        latency(&left, results)?;
        throughput(&right, results)?;
        root.present()?;
    }
    let head = svg.find('>').context("plotters wrote no SVG")? + 1;
    svg.insert_str(head, STYLE);
    Ok(svg)
}

fn colour(system: System) -> RGBColor {
    match system {
        System::Direct => RGBColor(0x8C, 0x95, 0x9F),
        System::Proxy => RGBColor(0x3B, 0x82, 0xF6),
        System::RuntimeProxy => RGBColor(0x14, 0xA3, 0x8B),
        System::Pilotlight => RGBColor(0xF9, 0x73, 0x16),
    }
}

fn text(size: u32) -> TextStyle<'static> {
    (FONT, size).into_font().color(&INK)
}

fn latency(area: &Area<'_>, results: &Results) -> Result<()> {
    let (area, below) = area.split_vertically(SIZE.1 - LEGEND_HEIGHT);
    let small: Vec<_> = results
        .latency
        .iter()
        .filter(|series| series.bytes == SMALL)
        .collect();
    let lines = small
        .iter()
        .map(|series| points(series))
        .collect::<Result<Vec<_>>>()?;
    let values = || lines.iter().flatten().map(|(_, value)| *value);
    let low = values().fold(f64::MAX, f64::min) * 0.8;
    let high = values().fold(0.0, f64::max) * 1.3;
    let mut chart = ChartBuilder::on(&area)
        .caption("Warm latency, 100-byte events, one connection", text(16))
        .margin(16)
        .x_label_area_size(28)
        .y_label_area_size(58)
        .build_cartesian_2d(LEFT..RIGHT, (low..high).log_scale())?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .x_labels(QUANTILES.len())
        .x_label_formatter(&|at: &f64| {
            let label = QUANTILES
                .get(at.round() as usize)
                .filter(|_| at.fract() == 0.0);
            label.map_or("", |(_, label)| label).to_owned()
        })
        .disable_y_mesh()
        .y_label_formatter(&|_| String::new())
        .set_tick_mark_size(LabelAreaPosition::Left, 0)
        .label_style(text(13))
        .axis_style(INK)
        .bold_line_style(GRID)
        .light_line_style(TRANSPARENT)
        .draw()?;
    // Drawn here, since plotters marks a logarithmic axis only at decades or at each of their nine parts.
    for ms in TICKS.into_iter().filter(|ms| (low..high).contains(ms)) {
        chart.draw_series([PathElement::new(vec![(LEFT, ms), (RIGHT, ms)], GRID)])?;
        let right = text(13).pos(Pos::new(HPos::Right, VPos::Center));
        let label = Text::new(format!("{ms} ms"), (-10, 0), right);
        chart.draw_series([EmptyElement::at((LEFT, ms)) + label])?;
    }
    for (series, line) in small.iter().zip(lines) {
        let stroke = stroke(series);
        let dots: Vec<_> = line
            .iter()
            .map(|at| Circle::new(*at, 4, stroke.filled()))
            .collect();
        match is_dashed(series) {
            true => drop(chart.draw_series(DashedLineSeries::new(line, 6, 4, stroke))?),
            false => drop(chart.draw_series(LineSeries::new(line, stroke))?),
        }
        chart.draw_series(dots)?;
    }
    legend(&below, &small)
}

fn is_dashed(series: &LatencySeries) -> bool {
    series.function == Function::Hello
}

fn stroke(series: &LatencySeries) -> ShapeStyle {
    let width = if series.system == System::Pilotlight {
        3
    } else {
        2
    };
    colour(series.system).stroke_width(width)
}

/// Below the chart, where it hides no line: two rows, in the order of the series.
fn legend(area: &Area<'_>, series: &[&LatencySeries]) -> Result<()> {
    for (at, series) in series.iter().enumerate() {
        let (column, row) = (at / 2, at % 2);
        let (x, y) = (
            LEGEND_INDENT + LEGEND_COLUMNS[column.min(2)],
            10 + 20 * i32::try_from(row)?,
        );
        let dashes = if is_dashed(series) {
            vec![(0, 10), (16, 26)]
        } else {
            vec![(0, 26)]
        };
        for (from, to) in dashes {
            area.draw(&PathElement::new(
                vec![(x + from, y), (x + to, y)],
                stroke(series),
            ))?;
        }
        let name = format!("{}, {}", series.system.label(), series.function.name());
        let left = text(13).pos(Pos::new(HPos::Left, VPos::Center));
        area.draw(&Text::new(name, (x + 32, y), left))?;
    }
    Ok(())
}

fn points(series: &LatencySeries) -> Result<Vec<(f64, f64)>> {
    let times = series.pooled()?;
    let quantiles = QUANTILES.iter().enumerate();
    let points = quantiles.map(|(at, (quantile, _))| (at as f64, milliseconds(&times, *quantile)));
    Ok(points.collect())
}

fn throughput(area: &Area<'_>, results: &Results) -> Result<()> {
    let mut rates = Vec::new();
    for series in &results.throughput {
        rates.push((series.system, series.rate()?));
    }
    let high = rates.iter().map(|(_, rate)| rate.max).fold(0.0, f64::max) * 1.15;
    let last = rates.len() as f64 - 0.5;
    let mut chart = ChartBuilder::on(area)
        .caption("Throughput, 32 connections, calls/s", text(16))
        .margin(16)
        .x_label_area_size(28)
        .y_label_area_size(52)
        .build_cartesian_2d(-0.5..last, 0.0..high)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .x_labels(rates.len())
        .x_label_formatter(&|at: &f64| {
            let rate = rates.get(at.round() as usize).filter(|_| at.fract() == 0.0);
            rate.map_or("", |(system, _)| system.label()).to_owned()
        })
        .y_labels(6)
        .y_label_formatter(&|rate| format!("{rate:.0}"))
        .label_style(text(13))
        .axis_style(INK)
        .bold_line_style(GRID)
        .light_line_style(TRANSPARENT)
        .draw()?;
    for (at, (system, rate)) in rates.iter().enumerate() {
        let at = at as f64;
        let bar = Rectangle::new(
            [(at - 0.3, 0.0), (at + 0.3, rate.median)],
            colour(*system).filled(),
        );
        let whisker = PathElement::new(vec![(at, rate.min), (at, rate.max)], INK.stroke_width(1));
        chart.draw_series([bar])?;
        chart.draw_series([whisker])?;
        let above = text(13).pos(Pos::new(HPos::Center, VPos::Bottom));
        let label = Text::new(
            format!("{:.0}", rate.median),
            (at, rate.max + high * 0.01),
            above,
        );
        chart.draw_series([label])?;
    }
    Ok(())
}
