//! What the library's text of the page lacks: exemplars of histograms, and the older format for those who do not ask for
//! OpenMetrics.

use std::fmt::Write as _;

use crate::counters::Exemplar;

/// Adds exemplars to the lines of a histogram's buckets, which begin with this: one for each line, in order.
pub(super) fn with_exemplars(page: &str, bucket: &str, exemplars: &[Option<Exemplar>]) -> String {
    let mut exemplars = exemplars.iter();
    let mut text = String::with_capacity(page.len());
    for line in page.lines() {
        text.push_str(line);
        let is_bucket = line.starts_with(bucket);
        if is_bucket && let Some(Some(exemplar)) = exemplars.next() {
            let (trace, seconds, at) =
                (exemplar.trace, exemplar.seconds, exemplar.at.as_secs_f64());
            // Only a writer fails.
            let _ = write!(text, " # {{trace_id=\"{trace}\"}} {seconds} {at:.3}");
        }
        text.push('\n');
    }
    text
}

/// A page without exemplars in the format of Prometheus 0.0.4: counters are called as their samples are.
pub(super) fn plain(page: &str) -> String {
    let counters: Vec<_> = page
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" counter"))
        .collect();
    let mut text = String::with_capacity(page.len());
    for line in page.lines().filter(|line| *line != "# EOF") {
        let described = ["# HELP ", "# TYPE "].into_iter().find_map(|kind| {
            let (name, rest) = line.strip_prefix(kind)?.split_once(' ')?;
            counters.contains(&name).then_some((kind, name, rest))
        });
        match described {
            Some((kind, name, rest)) => {
                let _ = write!(text, "{kind}{name}_total {rest}");
            }
            None => text.push_str(line),
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::trace_context::TraceId;

    const PAGE: &str = "# HELP a_calls Calls.\n# TYPE a_calls counter\na_calls_total{x=\"1 # {y} 2\"} 3\n\
        a_calls_total{x=\"z\"} 3\n# HELP a_seconds Time.\n# TYPE a_seconds histogram\na_seconds_bucket{le=\"1\"} 0\na_seconds_bucket{le=\"+Inf\"} 1\n# EOF\n";

    #[test]
    fn bucket_has_the_exemplar_of_its_place() {
        let trace = TraceId::parse("4bf92f3577b34da6a3ce929d0e0e4736").unwrap();
        let at = Duration::from_millis(1_700_000_000_500);
        let exemplars = [
            None,
            Some(Exemplar {
                trace,
                seconds: 2.5,
                at,
            }),
        ];
        let page = with_exemplars(PAGE, "a_seconds_bucket{", &exemplars);
        let expected = PAGE.replace(
            "+Inf\"} 1",
            "+Inf\"} 1 # {trace_id=\"4bf92f3577b34da6a3ce929d0e0e4736\"} 2.5 1700000000.500",
        );
        assert_eq!(page, expected);
        assert_eq!(with_exemplars(PAGE, "a_seconds_bucket{", &[]), PAGE);
    }

    #[test]
    fn plain_page_has_counters_by_their_samples_names() {
        let expected = "# HELP a_calls_total Calls.\n# TYPE a_calls_total counter\na_calls_total{x=\"1 # {y} 2\"} 3\n\
            a_calls_total{x=\"z\"} 3\n# HELP a_seconds Time.\n# TYPE a_seconds histogram\na_seconds_bucket{le=\"1\"} 0\na_seconds_bucket{le=\"+Inf\"} 1\n";
        assert_eq!(plain(PAGE), expected);
    }
}
