//! What rules may ask about proxies and servers at large (configuration manual 7.3.2).
use super::sample::Traffic;

/// Which number; of what follows in brackets, or of the proxy that the rule stands in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Gauge {
    // of a frontend
    FeConn,
    FeReqRate,
    FeSessRate,
    // of a backend
    AvgQueue,
    BeConn,
    BeConnFree,
    BeSessRate,
    ConnSlots,
    NbSrv,
    Queue,
    // of a server
    SrvConn,
    SrvConnFree,
    SrvIsUp,
    SrvIweight,
    SrvQueue,
    SrvSessRate,
    SrvUweight,
    SrvWeight,
}

/// Whose number it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Subject {
    Frontend,
    Backend,
    Server,
}

impl Gauge {
    pub fn subject(self) -> Subject {
        use Gauge::*;
        match self {
            FeConn | FeReqRate | FeSessRate => Subject::Frontend,
            AvgQueue | BeConn | BeConnFree | BeSessRate | ConnSlots | NbSrv | Queue => Subject::Backend,
            _ => Subject::Server,
        }
    }

    /// Its value; of a server, `of` is `backend/server` or its name alone.
    pub fn read(self, t: &dyn Traffic, of: &str) -> Option<i64> {
        match self.subject() {
            Subject::Server => match of.rsplit_once('/') {
                Some((b, s)) => t.gauge(self, Some(b), Some(s)),
                None => t.gauge(self, None, Some(of)),
            },
            _ => t.gauge(self, Some(of).filter(|n| !n.is_empty()), None),
        }
    }
}
