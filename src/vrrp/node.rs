//! The virtual routers of one node as one pure machine: groups that move together, and the node's own freeze. What a driver is to do comes out as
//! actions of its routers, in order.
use super::fsm::{Action, Input, Machine, State};
use super::group;
use std::time::Instant;

/// Whoever carries a router's machine: the engine's routers with their sockets, or a simulation's without.
pub trait Seat {
    fn machine(&self) -> &Machine;
    fn machine_mut(&mut self) -> &mut Machine;

    fn state(&self) -> State {
        self.machine().state()
    }
}

/// An action, and the router it belongs to.
pub type Deed = (usize, Action);

/// What the routers of a node share.
#[derive(Debug, Default)]
pub struct Node {
    /// Sync groups, by their members' places.
    groups: Vec<Vec<usize>>,
}

impl Node {
    pub fn groups(&self) -> &[Vec<usize>] {
        &self.groups
    }

    pub fn regroup(&mut self, groups: Vec<Vec<usize>>) {
        self.groups = groups;
    }

    /// Gives an input to one router. Groups have their say in [`Node::settle`], once all inputs of a moment are in.
    pub fn feed<S: Seat>(&self, seats: &mut [S], i: usize, now: Instant, input: Input, out: &mut Vec<Deed>) {
        let mut said = Vec::new();
        seats[i].machine_mut().handle(now, input, &mut said);
        out.extend(said.into_iter().map(|a| (i, a)));
    }

    /// Lets groups agree.
    pub fn settle<S: Seat>(&self, seats: &mut [S], now: Instant, out: &mut Vec<Deed>) {
        for g in &self.groups {
            // Each round moves members one step; there are only a few steps.
            for _ in 0..4 {
                let states: Vec<State> = g.iter().map(|i| seats[*i].state()).collect();
                let said = group::settle(&states);
                if said.is_empty() {
                    break;
                }
                for (k, input) in said {
                    self.feed(seats, g[k], now, input, out);
                }
            }
        }
    }

    /// Notices that this process was not running, before anything is said as master. The routers it concerns come back: nothing that was due meanwhile may be
    /// done, since the addresses may be somebody else's by now. Called before every packet and tick.
    pub fn wake<S: Seat>(&self, seats: &mut [S], now: Instant, out: &mut Vec<Deed>) -> Vec<usize> {
        let slept: Vec<usize> = (0..seats.len()).filter(|i| seats[*i].machine().overslept(now)).collect();
        for i in &slept {
            self.feed(seats, *i, now, Input::Frozen, out);
        }
        if !slept.is_empty() {
            self.settle(seats, now, out);
        }
        slept
    }

    /// Does what is due. A driver calls this at [`Machine::next_deadline`] of any router.
    pub fn tick<S: Seat>(&self, seats: &mut [S], now: Instant, out: &mut Vec<Deed>) {
        for (i, s) in seats.iter_mut().enumerate() {
            let mut said = Vec::new();
            s.machine_mut().tick(now, &mut said);
            out.extend(said.into_iter().map(|a| (i, a)));
        }
        self.settle(seats, now, out);
    }
}
