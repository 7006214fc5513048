//! Scripts that read as conversations. A line at the margin is what happens, the indented lines below it are all that is said
//! because of it. `deliver all` delivers in the order of sending, whatever follows too. Owners answer when the script says so.

use super::world::{Event, Heard, World};
use crate::token::Mode::{self, Exclusive, Shared};
use crate::token::{Message, Say};
use std::collections::VecDeque;

struct Talk {
    world: World,
    names: Vec<&'static str>,
    /// Wires with a message on them, in the order of sending.
    sent: VecDeque<(u8, u8)>,
}

impl Talk {
    /// `hub, north below hub, a below north`.
    fn new(tree: &'static str) -> Talk {
        let (mut names, mut parents): (Vec<&str>, Vec<u8>) = (Vec::new(), Vec::new());
        for vertex in tree.split(", ") {
            let (name, parent) = vertex.split_once(" below ").unwrap_or((vertex, ""));
            parents.extend(names.iter().position(|known| *known == parent).map(|at| at as u8));
            names.push(name);
        }
        assert_eq!(parents.len() + 1, names.len(), "every vertex but the first hangs below one named before");
        Talk { world: World::new(&parents), names, sent: VecDeque::new() }
    }

    fn event(&self, line: &str) -> Event {
        let words: Vec<&str> = line.split(' ').collect();
        let v =
            |name: &str| self.names.iter().position(|n| *n == name).unwrap_or_else(|| panic!("who is {name}?")) as u8;
        let mode = |letter: &str| if letter == "X" { Exclusive } else { Shared };
        match words[..] {
            [name, "wants", letter] => Event::Want(v(name), mode(letter)),
            [name, "ends", letter] => Event::Done(v(name), mode(letter)),
            [name, "upgrades"] => Event::Upgrade(v(name)),
            [name, "downgrades"] => Event::Downgrade(v(name)),
            [name, "lets", "go"] => Event::Revoked(v(name)),
            [name, "tidies"] => Event::Tidy(v(name)),
            [name, "is", "lost"] => Event::Lose(v(name)),
            ["deliver", from, "to", to] => Event::Deliver(v(from), v(to)),
            _ => panic!("what is {line:?}?"),
        }
    }

    fn happen(&mut self, line: &str) -> Vec<String> {
        let mut said = Vec::new();
        if line == "deliver all" {
            while let Some((from, to)) = self.sent.pop_front() {
                said.extend(self.step(Event::Deliver(from, to)));
            }
        } else {
            let event = self.event(line);
            if let Event::Deliver(from, to) = event {
                let at = self.sent.iter().position(|wire| *wire == (from, to)).expect("a message on this wire");
                self.sent.remove(at);
            }
            if let Event::Lose(leaf) = event {
                self.sent.retain(|(from, to)| *from != leaf && *to != leaf);
            }
            said.extend(self.step(event));
        }
        said
    }

    fn step(&mut self, event: Event) -> Vec<String> {
        self.world.happen(event).unwrap_or_else(|what| panic!("{event:?}: {what}"));
        self.world.check().unwrap_or_else(|what| panic!("{event:?}: {what}"));
        std::mem::take(&mut self.world.heard).into_iter().map(|heard| self.tell(heard)).collect()
    }

    fn tell(&mut self, heard: Heard) -> String {
        let name = |v: u8| self.names[v as usize];
        match heard {
            Heard::Sent { from, to, messages } => {
                self.sent.extend(messages.iter().map(|_| (from, to)));
                let said: Vec<String> = messages.iter().map(words).collect();
                format!("{} > {}: {}", name(from), name(to), said.join(", "))
            }
            Heard::Granted { to, mode, .. } => format!("{} is granted {}", name(to), letter(mode)),
            Heard::Revoke { from, keep: None } => format!("{} is to let go", name(from)),
            Heard::Revoke { from, keep: Some(_) } => format!("{} is to downgrade", name(from)),
        }
    }
}

fn letter(mode: Mode) -> &'static str {
    match mode {
        Shared => "S",
        Exclusive => "X",
    }
}

fn words(message: &Message) -> String {
    match message.say {
        Say::Want(mode) => format!("want {}", letter(mode)),
        Say::Copy(grant) => format!("copy {}", grant.serial),
        Say::Token(grant) => format!("token {}", grant.serial),
        Say::Recall => "recall".into(),
        Say::Recalled { .. } => "recalled".into(),
        Say::Dropped { .. } => "dropped".into(),
    }
}

/// Plays the script and compares what is said.
fn talk(tree: &'static str, script: &str) {
    let mut talk = Talk::new(tree);
    let mut played = String::new();
    let script: String =
        script.lines().filter(|l| !l.trim().is_empty()).map(|l| format!("{}\n", l.trim_end())).collect();
    for line in script.lines().filter(|line| !line.starts_with(' ')) {
        played += &format!("{line}\n");
        played.extend(talk.happen(line).into_iter().map(|said| format!("    {said}\n")));
    }
    assert!(played == script, "the script says:\n{script}\nbut it went:\n{played}");
}

#[test]
fn a_token_moves_to_who_wants_it() {
    talk(
        "hub, north below hub, a below north",
        "
a wants X
    a > north: want X
deliver all
    north > hub: want X
    hub > north: token 1
    north > a: token 2
    a is granted X
a ends X
a wants X
",
    );
}

#[test]
fn contention_is_served_in_turn() {
    talk(
        "hub, a below hub, b below hub, c below hub",
        "
a wants X
    a > hub: want X
b wants X
    b > hub: want X
c wants S
    c > hub: want S
deliver all
    hub > a: token 1
    hub > a: want X
    a is granted X
    a is to let go
a wants X
a ends X
a lets go
    a > hub: token 2, want X
deliver all
    hub > b: token 3, want S
    hub > b: want X
    b is granted X
    b is to downgrade
b ends X
b lets go
    b > hub: copy 4, token 5
deliver all
    hub > c: copy 5
    hub > c: recall
    c is granted S
    c is to let go
c ends S
c lets go
    c > hub: recalled
deliver all
    hub > a: token 6
    a is granted X
",
    );
}

#[test]
fn copies_are_recalled_along_two_levels() {
    talk(
        "hub, north below hub, a below north, b below north, c below hub",
        "
a wants S
    a > north: want S
b wants S
    b > north: want S
deliver all
    north > hub: want S
    hub > north: copy 1
    north > a: copy 2
    north > b: copy 3
    a is granted S
    b is granted S
c wants X
    c > hub: want X
deliver all
    hub > north: recall
    north > a: recall
    north > b: recall
    a is to let go
    b is to let go
a ends S
a lets go
    a > north: recalled
b ends S
b lets go
    b > north: recalled
deliver all
    north > hub: recalled
    hub > c: token 4
    c is granted X
",
    );
}

#[test]
fn two_copies_upgrade_at_once() {
    talk(
        "hub, a below hub, b below hub",
        "
a wants S
    a > hub: want S
b wants S
    b > hub: want S
deliver all
    hub > a: copy 1
    hub > b: copy 2
    a is granted S
    b is granted S
a upgrades
    a > hub: want X
b upgrades
    b > hub: want X
deliver all
    hub > b: recall
    b is to let go
b lets go
    b > hub: recalled
deliver all
    hub > a: token 3, want X
    a is granted X
    a is to let go
a ends X
a lets go
    a > hub: token 4
deliver all
    hub > b: token 5
    b is granted X
",
    );
}

#[test]
fn a_writer_keeps_its_copy_where_the_next_only_reads() {
    talk(
        "hub, a below hub, b below hub",
        "
a wants X
    a > hub: want X
deliver all
    hub > a: token 1
    a is granted X
b wants S
    b > hub: want S
deliver all
    hub > a: want S
    a is to downgrade
a ends X
a downgrades
    a > hub: copy 2
deliver all
    hub > b: copy 3
    b is granted S
a wants S
",
    );
}

#[test]
fn the_holder_is_lost() {
    talk(
        "hub, north below hub, a below north, b below hub",
        "
a wants X
    a > north: want X
deliver all
    north > hub: want X
    hub > north: token 1
    north > a: token 2
    a is granted X
b wants X
    b > hub: want X
deliver all
    hub > north: want X
    north > a: want X
    a is to let go
a is lost
    north > hub: token 5
deliver all
    hub > b: token 6
    b is granted X
",
    );
}

#[test]
fn a_reader_that_does_not_answer_is_lost() {
    talk(
        "hub, a below hub, b below hub",
        "
a wants S
    a > hub: want S
deliver all
    hub > a: copy 1
    a is granted S
b wants X
    b > hub: want X
deliver all
    hub > a: recall
    a is to let go
a is lost
    hub > b: token 2
deliver all
    b is granted X
",
    );
}

#[test]
fn idle_things_are_given_back() {
    talk(
        "hub, a below hub, b below hub",
        "
a wants X
    a > hub: want X
deliver all
    hub > a: token 1
    a is granted X
a ends X
a lets go
b wants S
    b > hub: want S
deliver all
    hub > a: want S
    a > hub: copy 2
    hub > b: copy 3
    b is granted S
b ends S
b lets go
a tidies
b tidies
    b > hub: dropped
deliver all
hub tidies
    hub > a: dropped
deliver all
a tidies
    a > hub: token 4
deliver all
",
    );
}

#[test]
fn a_want_crosses_with_a_token_given_back() {
    talk(
        "hub, a below hub",
        "
a wants X
    a > hub: want X
deliver all
    hub > a: token 1
    a is granted X
a ends X
a lets go
hub wants X
    hub > a: want X
a tidies
    a > hub: token 2
deliver hub to a
deliver all
    hub is granted X
",
    );
}

#[test]
fn a_recall_crosses_with_a_drop_and_a_new_want() {
    talk(
        "hub, a below hub",
        "
a wants S
    a > hub: want S
deliver all
    hub > a: copy 1
    a is granted S
a ends S
a lets go
hub wants X
    hub > a: recall
a tidies
    a > hub: dropped
a wants S
    a > hub: want S
deliver hub to a
    a > hub: recalled
deliver all
    hub is granted X
    hub is to downgrade
hub ends X
hub downgrades
    hub > a: copy 2
deliver all
    a is granted S
",
    );
}

#[test]
fn who_waits_behind_a_reader_takes_its_place_early() {
    talk(
        "hub, north below hub, a below north, b below north, c below hub",
        "
a wants S
    a > north: want S
b wants X
    b > north: want X
c wants X
    c > hub: want X
deliver all
    north > hub: want S
    north > hub: want X
    hub > c: token 1
    hub > c: want S
    hub > c: want X
    c is granted X
    c is to downgrade
c ends X
c lets go
    c > hub: copy 2, token 3
deliver all
    hub > north: copy 3
    hub > north: token 4
    north > a: copy 4
    north > a: recall
    a is granted S
    a is to let go
a ends S
a lets go
    a > north: recalled
deliver all
    north > b: token 5
    b is granted X
",
    );
}
