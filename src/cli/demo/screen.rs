//! The live screen: who holds the address, requests by node and server, errors, and what each event cost.
use super::probe::{Cost, Shot};
use super::stage::{Event, Stage, ended};
use crossterm::event::{self, Event as Input, KeyCode, KeyModifiers};
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::{Block, Paragraph, Row, Sparkline, Table};
use std::sync::mpsc;
use std::time::{Duration, Instant};

const KEYS: &[(char, &str, Option<Event>)] = &[
    ('k', "kill the proxy", Some(Event::KillProxy)),
    ('h', "hang it", Some(Event::HangProxy)),
    ('c', "cut the link", Some(Event::CutLink)),
    ('s', "planned switch", Some(Event::PlannedSwitch)),
    ('r', "reload", Some(Event::Reload)),
    ('e', "heal", None),
    ('q', "quit", None),
];

enum News {
    Done(Event, Result<Cost, String>),
    View(View),
}

#[derive(Default, Clone)]
struct View {
    nodes: [String; 2],
    by_node: [usize; 2],
    by_server: [usize; 3],
    failed: usize,
    rates: Vec<u64>,
}

/// Runs until `q` or Ctrl-C. The stage lives on its own thread, so that the screen never waits for an event.
pub fn run(stage: Stage) -> i32 {
    let (to_stage, orders) = mpsc::channel::<Option<Event>>();
    let (news, from_stage) = mpsc::channel();
    let actor = std::thread::spawn(move || act(stage, &orders, &news));
    let mut terminal = ratatui::init();
    let mut view = View::default();
    let mut history: Vec<(Event, Result<Cost, String>)> = Vec::new();
    let mut busy: Option<(Event, Instant)> = None;
    let code = loop {
        while let Ok(n) = from_stage.try_recv() {
            match n {
                News::View(v) => view = v,
                News::Done(e, r) => {
                    history.push((e, r));
                    busy = None;
                }
            }
        }
        if terminal.draw(|f| draw(f, &view, &history, busy.as_ref())).is_err() {
            break 1;
        }
        if ended() {
            break 0;
        }
        if !event::poll(Duration::from_millis(100)).unwrap_or(false) {
            continue;
        }
        let Ok(Input::Key(k)) = event::read() else { continue };
        match k.code {
            KeyCode::Char('q') | KeyCode::Esc => break 0,
            KeyCode::Char('c') if k.modifiers.contains(KeyModifiers::CONTROL) => break 0,
            KeyCode::Char(c) if busy.is_none() => {
                if let Some(e) = KEYS.iter().find(|x| x.0 == c).and_then(|x| x.2) {
                    busy = Some((e, Instant::now()));
                    let _ = to_stage.send(Some(e));
                } else if c == 'e' {
                    let _ = to_stage.send(None);
                }
            }
            _ => {}
        }
    };
    ratatui::restore();
    drop(to_stage);
    // The stage cleans up when it is dropped, on its own thread.
    let _ = actor.join();
    code
}

/// Plays orders and reports; `None` heals. Ends when the screen hangs up.
fn act(mut stage: Stage, orders: &mpsc::Receiver<Option<Event>>, news: &mpsc::Sender<News>) {
    let mut rates = Vec::new();
    loop {
        match orders.recv_timeout(Duration::from_millis(250)) {
            Ok(Some(e)) => {
                let r = stage.play(e);
                let _ = news.send(News::Done(e, r));
            }
            Ok(None) => {
                for n in 0..2 {
                    let _ = stage.lab.port(n, true);
                    let _ = super::lab::command(&stage.socket(n), "vrrp resume");
                    if stage.nodes[n].is_none() {
                        let _ = stage.start(n);
                    }
                }
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => return,
            Err(mpsc::RecvTimeoutError::Timeout) => {}
        }
        let second: Vec<Shot> = stage.prober.since(Instant::now() - Duration::from_secs(1));
        let mut v = View::default();
        for s in &second {
            match s.result {
                Ok((n, srv)) => {
                    if let Some(x) = v.by_node.get_mut(usize::from(n).wrapping_sub(1)) {
                        *x += 1;
                    }
                    if let Some(x) = v.by_server.get_mut(usize::from(srv).wrapping_sub(1)) {
                        *x += 1;
                    }
                }
                Err(_) => v.failed += 1,
            }
        }
        rates.push((v.by_node[0] + v.by_node[1]) as u64);
        if rates.len() > 120 {
            rates.remove(0);
        }
        v.rates.clone_from(&rates);
        for n in 0..2 {
            v.nodes[n] = stage.vrrp(n).map_or_else(
                || "no answer".to_owned(),
                |(s, able)| if able { s } else { format!("{s}, cannot serve") },
            );
        }
        let _ = news.send(News::View(v));
    }
}

fn draw(
    f: &mut ratatui::Frame<'_>,
    v: &View,
    history: &[(Event, Result<Cost, String>)],
    busy: Option<&(Event, Instant)>,
) {
    let [top, rate, events, keys] =
        Layout::vertical([Constraint::Length(5), Constraint::Length(6), Constraint::Min(4), Constraint::Length(3)])
            .areas(f.area());
    let rows = (0..2).map(|n| {
        let master = v.nodes[n].starts_with("MASTER");
        let style = if master { Style::new().fg(Color::Green).add_modifier(Modifier::BOLD) } else { Style::new() };
        Row::new([format!("lb{}", n + 1), v.nodes[n].clone(), format!("{}/s", v.by_node[n])]).style(style)
    });
    let servers = format!(
        "servers: {}   errors: {}",
        v.by_server.iter().enumerate().map(|(i, n)| format!("s{} {n}/s", i + 1)).collect::<Vec<_>>().join("  "),
        v.failed
    );
    f.render_widget(
        Table::new(rows, [Constraint::Length(6), Constraint::Length(28), Constraint::Length(10)])
            .block(Block::bordered().title(" 10.77.0.100 ").title_bottom(servers)),
        top,
    );
    f.render_widget(
        Sparkline::default().data(&v.rates).max(220).block(Block::bordered().title(" answers per second ")),
        rate,
    );
    let mut lines: Vec<Line<'_>> = history
        .iter()
        .rev()
        .map(|(e, r)| match r {
            Ok(c) => Line::from(format!(
                "{:<28} outage {:>8.1} ms   failed {:>3}   of new connections {:>3}",
                e.name(),
                c.outage.as_secs_f64() * 1000.0,
                c.failed,
                c.failed_new
            )),
            Err(w) => Line::from(format!("{:<28} {}", e.name(), w.lines().next().unwrap_or_default()))
                .style(Style::new().fg(Color::Red)),
        })
        .collect();
    if let Some((e, since)) = busy {
        lines.insert(
            0,
            Line::from(format!("{:<28} under way for {} s", e.name(), since.elapsed().as_secs()))
                .style(Style::new().fg(Color::Yellow)),
        );
    }
    f.render_widget(Paragraph::new(lines).block(Block::bordered().title(" failovers ")), events);
    let help = KEYS.iter().map(|k| format!("{} {}", k.0, k.1)).collect::<Vec<_>>().join("   ");
    f.render_widget(Paragraph::new(help).block(Block::bordered()), keys);
}
