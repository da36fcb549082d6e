//! Level 6: the runtime socket, the statistics page and the metrics. Text becomes a typed [`command::Command`]; `execute` carries it out.
pub mod command;
pub mod execute;
pub mod metrics;
mod names;
mod offences;
mod page;
pub mod runtime;
pub mod socket;
pub mod stats;
pub mod statsfile;
mod typed;

pub use crate::base::version::{RELEASE_DATE, VERSION};

/// What the forwarding path asks of this layer.
pub struct Pages {
    pub live: std::sync::Arc<crate::state::live::Live>,
    pub snapshot: std::sync::Arc<arc_swap::ArcSwap<crate::state::snapshot::Snapshot>>,
}

impl crate::proxy::Services for Pages {
    fn stats(&self, request: &crate::proxy::StatsRequest<'_>) -> crate::proxy::ServiceReply {
        page::answer(request, &self.live)
    }
    fn prometheus(&self, query: &str) -> crate::proxy::ServiceReply {
        let body = metrics::render(&self.snapshot.load(), &self.live, query);
        crate::proxy::ServiceReply {
            status: 200,
            headers: vec![("cache-control", "no-cache".into()), ("content-type", prometheus::TEXT_FORMAT.into())],
            body,
        }
    }
}
