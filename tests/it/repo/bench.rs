//! The arithmetic of `make bench`: its figures are only as good as its percentiles and medians.

// The bench is a program of its own; its tests run here, because a target without a harness has none.
#[path = "../../bench/figures.rs"]
mod figures;

use figures::{Histogram, Spread};

#[test]
fn a_percentile_is_off_by_less_than_a_hundredth() {
    let mut histogram = Histogram::default();
    (1..=100_000_u128).for_each(|n| histogram.record(n * 1_000));
    for (share, micros) in [(0.5, 50_000.0), (0.99, 99_000.0), (1.0, 100_000.0)] {
        let found = histogram.percentile(share);
        assert!((found - micros).abs() < micros / 100.0, "{share}: {found}");
    }
    assert!(Histogram::default().percentile(0.5) == 0.0 && histogram.count() == 100_000);
}

#[test]
fn merged_histograms_are_one() {
    let (mut low, mut high) = (Histogram::default(), Histogram::default());
    (0..90).for_each(|_| low.record(1_000));
    (0..10).for_each(|_| high.record(u128::MAX));
    low.merge(&high);
    assert_eq!(low.count(), 100);
    assert!(low.percentile(0.9) < 1.1 && low.percentile(0.91) > 1e9, "what is too long to count counts as long");
}

#[test]
fn the_middle_of_the_rounds_is_the_median() {
    let spread = Spread::of([3.0, 1.0, 2.0]).unwrap();
    assert_eq!((spread.median, spread.min, spread.max), (2.0, 1.0, 3.0));
    assert!(Spread::of([]).is_none());
}
