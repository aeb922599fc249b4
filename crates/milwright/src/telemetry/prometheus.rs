//! Exports the metrics in the text format of Prometheus.

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

use crate::{Error, ErrorKind, Result};

/// Collects the metrics and renders them for Prometheus. The library has no HTTP server: answer `GET /metrics` with
/// [`render`](Exporter::render).
///
/// ```
/// let exporter = milwright::telemetry::Exporter::install()?;
/// milwright::telemetry::worker_restarted("coreml");
/// assert!(exporter.render().contains("milwright_worker_restarts_total{backend=\"coreml\"} 1"));
/// # Ok::<(), milwright::Error>(())
/// ```
#[derive(Clone)]
pub struct Exporter(PrometheusHandle);

/// Upper bounds of the histograms, in seconds: a call takes microseconds to seconds, a compilation minutes.
const BUCKETS: [f64; 18] = [
    0.000_02, 0.000_05, 0.000_1, 0.000_2, 0.000_5, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0, 5.0,
    20.0, 60.0, 300.0,
];

impl Exporter {
    /// Installs an exporter as the recorder of the process, with the descriptions of all metrics.
    ///
    /// # Errors
    /// The process already has a recorder.
    pub fn install() -> Result<Exporter> {
        let invalid = |e: &dyn std::fmt::Display| Error::new(ErrorKind::InvalidInput, e.to_string());
        let builder = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &BUCKETS)
            .map_err(|e| invalid(&e))?;
        let recorder = builder.build_recorder();
        let exporter = Exporter(recorder.handle());
        metrics::set_global_recorder(recorder)
            .map_err(|e| invalid(&e).with_hint("install one recorder, at the start of the program"))?;
        super::describe();
        Ok(exporter)
    }

    /// Renders all metrics in the text format. Measurements are buffered from call to call, so call it now and then
    /// even if nobody reads the result.
    pub fn render(&self) -> String {
        self.0.run_upkeep();
        self.0.render()
    }
}
