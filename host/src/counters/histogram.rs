//! Histograms of times and of bytes, with fixed buckets.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::clock::now;
use crate::sharded::Sharded;
use crate::trace_context::TraceId;

/// The upper bounds of the buckets of a time, in microseconds: from a short handler in Rust to the longest deadline.
const MICROSECONDS: [u64; 18] = [
    10, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
    1_000_000, 2_500_000, 5_000_000, 10_000_000, 30_000_000,
];

/// The upper bounds of the buckets of an outbox's bytes.
const BYTES: [u64; 6] = [1 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20, 16 << 20];

/// A histogram of times. Threads that observe at once share no cache line.
#[derive(Debug, Default)]
pub(crate) struct TimeHistogram {
    shards: Sharded<Buckets<{ MICROSECONDS.len() + 1 }>>,
    /// The last traced time of each bucket; nothing before the first one.
    exemplars: Mutex<Vec<Option<Exemplar>>>,
}

/// A time that was traced: its trace tells more.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Exemplar {
    pub(crate) trace: TraceId,
    pub(crate) seconds: f64,
    /// Since the Unix epoch.
    pub(crate) at: Duration,
}

impl TimeHistogram {
    /// Notes that a time which is observed was traced.
    pub(crate) fn note_traced(&self, time: Duration, trace: TraceId) {
        let mut exemplars = self
            .exemplars
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        exemplars.resize(MICROSECONDS.len() + 1, None);
        let (seconds, at) = (time.as_secs_f64(), now());
        if let Some(place) = exemplars.get_mut(place_of(time)) {
            *place = Some(Exemplar { trace, seconds, at });
        }
    }

    /// The last traced time of each bucket, or nothing.
    pub(crate) fn exemplars(&self) -> Vec<Option<Exemplar>> {
        let exemplars = self
            .exemplars
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        exemplars.clone()
    }

    pub(crate) fn observe(&self, time: Duration) {
        self.observe_many(time, 1);
    }

    /// Observes a time that stands for as many.
    pub(crate) fn observe_many(&self, time: Duration, count: u64) {
        let own = self.shards.own();
        own.add(place_of(time), nanoseconds(time), count);
    }

    /// The counts so far, in seconds.
    pub(crate) fn read(&self) -> Histogram {
        let mut counts = [0; MICROSECONDS.len() + 1];
        let mut sum = 0;
        for shard in self.shards.all() {
            sum += shard.read(&mut counts);
        }
        Histogram::new(&MICROSECONDS, &counts, sum as f64 / 1e9, 1e6)
    }
}

/// A histogram of bytes, which is seldom written.
#[derive(Debug, Default)]
pub(crate) struct ByteHistogram(Buckets<{ BYTES.len() + 1 }>);

impl ByteHistogram {
    pub(crate) fn observe(&self, bytes: usize) {
        let bytes = bytes as u64;
        self.0.add(place(&BYTES, bytes), bytes, 1);
    }

    pub(crate) fn read(&self) -> Histogram {
        let mut counts = [0; BYTES.len() + 1];
        let sum = self.0.read(&mut counts);
        Histogram::new(&BYTES, &counts, sum as f64, 1.0)
    }
}

/// What a histogram has counted.
#[derive(Debug, PartialEq)]
pub(crate) struct Histogram {
    pub(crate) sum: f64,
    pub(crate) count: u64,
    /// The upper bound of each bucket, the last of which has none, and its own count.
    pub(crate) buckets: Vec<(f64, u64)>,
}

impl Histogram {
    fn new(bounds: &[u64], counts: &[u64], sum: f64, unit: f64) -> Self {
        let bounds = bounds.iter().map(|bound| *bound as f64 / unit);
        Self {
            sum,
            count: counts.iter().sum(),
            buckets: bounds
                .chain([f64::INFINITY])
                .zip(counts.iter().copied())
                .collect(),
        }
    }
}

/// The count of each bucket, and the sum.
#[derive(Debug)]
struct Buckets<const N: usize> {
    counts: [AtomicU64; N],
    sum: AtomicU64,
}

impl<const N: usize> Default for Buckets<N> {
    fn default() -> Self {
        Self {
            counts: [const { AtomicU64::new(0) }; N],
            sum: AtomicU64::new(0),
        }
    }
}

impl<const N: usize> Buckets<N> {
    fn add(&self, place: usize, value: u64, times: u64) {
        if let Some(count) = self.counts.get(place) {
            count.fetch_add(times, Ordering::Relaxed);
            let value = value.saturating_mul(times);
            self.sum.fetch_add(value, Ordering::Relaxed);
        }
    }

    /// Adds the counts, and gives the sum.
    fn read(&self, counts: &mut [u64; N]) -> u64 {
        for (count, own) in counts.iter_mut().zip(&self.counts) {
            *count += own.load(Ordering::Relaxed);
        }
        self.sum.load(Ordering::Relaxed)
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// The bucket of a time.
fn place_of(time: Duration) -> usize {
    place(&MICROSECONDS, nanoseconds(time).div_ceil(1_000))
}

/// The bucket of a value: the first whose bound is not below it.
fn place(bounds: &[u64], value: u64) -> usize {
    bounds
        .iter()
        .position(|bound| value <= *bound)
        .unwrap_or(bounds.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_falls_into_the_first_bucket_that_holds_it() {
        let histogram = TimeHistogram::default();
        for nanoseconds in [1, 10_000, 10_001, 40_000_000_000] {
            histogram.observe(Duration::from_nanos(nanoseconds));
        }
        let read = histogram.read();
        assert_eq!((read.count, read.buckets.len()), (4, 19));
        assert_eq!(read.buckets[..2], [(0.000_01, 2), (0.000_1, 1)]);
        assert_eq!(read.buckets[18], (f64::INFINITY, 1));
        assert!((read.sum - 40.000_020_002).abs() < 1e-9, "{}", read.sum);
    }

    #[test]
    fn last_traced_time_of_each_bucket_is_kept() {
        let histogram = TimeHistogram::default();
        assert_eq!(histogram.exemplars(), []);
        let trace = |digit: &str| TraceId::parse(&digit.repeat(32)).unwrap();
        for (nanoseconds, digit) in [(1, "1"), (10_000, "2"), (40_000_000_000, "3")] {
            histogram.note_traced(Duration::from_nanos(nanoseconds), trace(digit));
        }
        let exemplars = histogram.exemplars();
        assert_eq!(exemplars.len(), 19);
        let traces: Vec<_> = exemplars
            .iter()
            .map(|one| one.map(|one| one.trace))
            .collect();
        assert_eq!(traces[..2], [Some(trace("2")), None]);
        assert_eq!(traces[18], Some(trace("3")));
    }

    #[test]
    fn bytes_fall_into_the_first_bucket_that_holds_them() {
        let histogram = ByteHistogram::default();
        for bytes in [0, 1_024, 1_025, 32 << 20] {
            histogram.observe(bytes);
        }
        let read = histogram.read();
        assert_eq!(read.buckets[..2], [(1_024.0, 2), (16_384.0, 1)]);
        assert_eq!(read.buckets[6], (f64::INFINITY, 1));
    }
}
