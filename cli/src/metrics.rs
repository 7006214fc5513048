//! Figures for Prometheus: a page of text, made when it is asked for, over HTTP.

use crate::failure::Failure;
use baton_core::mount::Stats;
use baton_core::node::Status;
use baton_fs_mount::figures::{BOUNDS_US, Figures};
use baton_node::NodeHandle;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

/// Where a node serves them unless it is told otherwise, if nobody else is there.
pub(crate) const USUAL: &str = "127.0.0.1:7401";
/// Whoever asks has this long to say so, and to take the answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// Serves what `page` makes, on a thread of its own, for as long as the process lives. Where nobody said a place, a usual
/// place that is taken is no reason to fail.
pub(crate) fn serve(
    place: Option<&str>,
    page: impl Fn() -> String + Send + 'static,
) -> Result<Option<SocketAddr>, Failure> {
    let listener = match place {
        Some("none") => return Ok(None),
        Some(place) => TcpListener::bind(place).map_err(Failure::io(format!("serve metrics at {place}")))?,
        None => match TcpListener::bind(USUAL) {
            Ok(listener) => listener,
            Err(error) => {
                tracing::info!(%error, "no metrics are served: {USUAL} is not free; name another place with --metrics");
                return Ok(None);
            }
        },
    };
    let at = listener.local_addr().map_err(Failure::io("serve metrics"))?;
    let work = move || {
        for stream in listener.incoming().flatten() {
            // Who hangs up early has what it wanted.
            let _hung_up = answer(stream, &page);
        }
    };
    std::thread::Builder::new().name("baton-metrics".into()).spawn(work).map_err(Failure::io("serve metrics"))?;
    Ok(Some(at))
}

fn answer(mut stream: TcpStream, page: &impl Fn() -> String) -> std::io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut request = [0; 4096];
    let mut got = 0;
    while !request[..got].windows(4).any(|end| end == b"\r\n\r\n") && got < request.len() {
        match stream.read(&mut request[got..])? {
            0 => break,
            more => got += more,
        }
    }
    let (status, body) = if request[..got].starts_with(b"GET /metrics ") {
        ("200 OK", page())
    } else {
        ("404 Not Found", "the figures are at /metrics\n".to_owned())
    };
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body.as_bytes())
}

/// A page in the making: the lines of one figure, of whatever node or mount, stand together under one description.
#[derive(Default)]
pub(crate) struct Page {
    figures: BTreeMap<&'static str, (String, Vec<String>)>,
}

impl Page {
    pub(crate) fn text(self) -> String {
        let figures = self.figures.into_values();
        figures.map(|(about, lines)| about + &lines.concat()).collect()
    }

    fn about(&mut self, name: &'static str, kind: &str, help: &str) {
        let about = || (format!("# HELP {name} {help}\n# TYPE {name} {kind}\n"), Vec::new());
        self.figures.entry(name).or_insert_with(about);
    }

    /// A line of the figure `name`; a histogram's lines have endings to its name.
    fn line(&mut self, name: &'static str, ending: &str, labels: &[(&str, &str)], value: impl Display) {
        let labels: Vec<String> = labels.iter().map(|(key, value)| format!("{key}=\"{}\"", escaped(value))).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        if let Some((_, lines)) = self.figures.get_mut(name) {
            lines.push(format!("{name}{ending}{labels} {value}\n"));
        }
    }

    fn one(&mut self, kind: &str, name: &'static str, help: &str, labels: &[(&str, &str)], value: u64) {
        self.about(name, kind, help);
        self.line(name, "", labels, value);
    }

    pub(crate) fn node(&mut self, status: &Status, slices: (u64, u64)) {
        let id = status.node.to_string();
        let of = [("node", id.as_str())];
        let leads = u64::from(status.leader == Some(status.node));
        let own = status.peers.iter().find(|peer| peer.node == status.node).and_then(|peer| peer.space);
        let (copies, tokens) = (&status.copies, &status.tokens);
        for (kind, name, help, value) in [
            ("gauge", "baton_raft_leads", "1 on the node that leads.", leads),
            ("gauge", "baton_raft_has_leader", "1 where a leader is known.", u64::from(status.leader.is_some())),
            ("gauge", "baton_raft_term", "Raft's term.", status.term),
            ("counter", "baton_raft_committed_index", "Last log entry known to be committed.", status.committed),
            ("counter", "baton_raft_applied_index", "Last log entry applied.", status.applied),
            ("gauge", "baton_sessions", "Mounts that have a session.", status.sessions.len() as u64),
            ("gauge", "baton_inodes", "Files, directories and the rest.", status.inodes),
            ("gauge", "baton_allocated_bytes", "What files take, before copies.", status.allocated),
            ("gauge", "baton_orphans", "Unlinked objects that may still be open.", status.orphans),
            ("gauge", "baton_slices", "Slices on this node's disk.", slices.0),
            ("gauge", "baton_slice_bytes", "Bytes in them.", slices.1),
            ("gauge", "baton_disk_total_bytes", "Size of this node's disk.", own.map_or(0, |space| space.total)),
            ("gauge", "baton_disk_free_bytes", "Room on it.", own.map_or(0, |space| space.free)),
            ("gauge", "baton_copies", "Copies that mounts have of objects.", copies.given_out),
            ("counter", "baton_copies_given_total", "Copies given out in this term.", copies.given),
            ("counter", "baton_copies_recalled_total", "Copies asked back in this term.", copies.recalled),
            (
                "gauge",
                "baton_tokens_held",
                "Files and directories whose token or a copy of it this node holds.",
                tokens.held,
            ),
            ("gauge", "baton_tokens_known", "Tokens that this node knows anything of.", tokens.known),
            (
                "counter",
                "baton_tokens_came_total",
                "Tokens and copies that came to this node, in this tree.",
                tokens.came,
            ),
            (
                "counter",
                "baton_tokens_went_total",
                "Tokens and copies that it had to give up, in this tree.",
                tokens.went,
            ),
            ("gauge", "baton_tokens_leaving", "Those it is to give up and still uses.", tokens.leaving),
            ("gauge", "baton_tree", "Number of the tree in this term.", tokens.view.1),
            ("gauge", "baton_commands_waiting", "Commands that wait for copies to come back.", copies.waiting),
            ("gauge", "baton_commands_queued", "Commands that wait to be proposed.", status.queued),
        ] {
            self.one(kind, name, help, &of, value);
        }
        self.about("baton_commands_total", "counter", "Commands that this node carried out, by kind.");
        for (op, count) in &status.carried_out {
            self.line("baton_commands_total", "", &[("node", &id), ("op", op)], count);
        }
    }

    pub(crate) fn mount(&mut self, at: &str, figures: &Figures, stats: &Stats) {
        let of = [("mount", at)];
        for (kind, name, help, value) in [
            ("counter", "baton_mount_answered_here_total", "Questions answered from copies.", stats.answered_here),
            ("counter", "baton_mount_asked_total", "Questions that a node was asked.", stats.asked),
            ("gauge", "baton_mount_copies", "Objects of which it has copies.", stats.copies),
            ("counter", "baton_mount_recalled_total", "Copies that were asked back.", stats.recalled),
            ("gauge", "baton_mount_calls_waiting", "Calls of programs under way.", stats.running),
            ("gauge", "baton_mount_open_files", "Files and directories that programs have open.", stats.open),
            ("gauge", "baton_mount_linked", "1 while a node answers.", u64::from(stats.linked)),
        ] {
            self.one(kind, name, help, &of, value);
        }
        for (name, help, counts) in [
            ("baton_mount_messages_sent_total", "Messages to the node, by kind.", &figures.sent),
            ("baton_mount_messages_received_total", "Messages from the node, by kind.", &figures.received),
            ("baton_mount_calls_failed_total", "Calls of programs that ended with an error.", &figures.failed),
        ] {
            self.about(name, "counter", help);
            for (kind, count) in counts {
                self.line(name, "", &[("mount", at), ("kind", kind)], count);
            }
        }
        let name = "baton_mount_call_seconds";
        self.about(name, "histogram", "How long calls of programs took, by kind.");
        for (call, durations) in &figures.calls {
            let mut count = 0;
            for (class, more) in durations.classes.iter().enumerate() {
                count += more;
                let bound = BOUNDS_US.get(class).map_or("+Inf".into(), |bound| (*bound as f64 / 1e6).to_string());
                self.line(name, "_bucket", &[("mount", at), ("call", call), ("le", &bound)], count);
            }
            self.line(name, "_sum", &[("mount", at), ("call", call)], durations.sum.as_secs_f64());
            self.line(name, "_count", &[("mount", at), ("call", call)], durations.count());
        }
    }
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// What a node says of itself now; nothing if it does not answer.
pub(crate) fn of_node(page: &mut Page, node: &NodeHandle, on: &tokio::runtime::Handle) {
    let status = on.block_on(async { tokio::time::timeout(PATIENCE, node.status()).await });
    if let Ok(Some(status)) = status {
        page.node(&status, node.slice_stats());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_quoted_so_that_they_end_where_they_should() {
        let mut page = Page::default();
        page.one("gauge", "x", "A figure.", &[("mount", "/a \"b\"\\c")], 7);
        assert_eq!(page.text(), "# HELP x A figure.\n# TYPE x gauge\nx{mount=\"/a \\\"b\\\"\\\\c\"} 7\n");
    }
}
