//! Owns the mount's machine and carries out what it says.
//!
//! The machine is stepped under a mutex, by whichever thread brings something: what can be answered without waiting is
//! answered on the thread that asked, because waking another one costs more than most operations. What must keep its order
//! (commands) leaves under the mutex, everything else after it.

use crate::clock;
use crate::figures::{Counting, Figures};
use crate::fuse::{Caller, Kept, Kernel, OnDone, Who, groups_of, is_signalled};
use crate::link::{Link, OnParts, OnPlaced};
use baton_core::mount::{
    Call, CallId, Config, Done, Input, MountMachine, Output, Patience, SliceFault, Slow, Stats, Valid,
};
use baton_core::session::{ToMount, ToNode};
use baton_core::types::{Errno, SessionId};
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, Weak};
use std::time::{Duration, Instant};
use tracing::Span;

const TICK: Duration = Duration::from_millis(100);
/// While the kernel's time with something that was asked back runs out.
const SHORT_TICK: Duration = Duration::from_millis(10);

#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// Who this is, for people: host and mount point.
    pub client: String,
    /// How long programs wait when the cluster cannot answer.
    pub patience: Patience,
}

/// A call under way: who asked, what to do with its outcome, and its span, which lasts as long as it does.
struct Waiting {
    who: Who,
    done: OnDone,
    what: &'static str,
    span: Span,
    began: Instant,
    /// It may wait for other programs: a signal to its caller ends that.
    interruptible: bool,
}

pub struct Client {
    machine: Mutex<MountMachine>,
    link: OnceLock<Arc<dyn Link>>,
    calls: Mutex<HashMap<CallId, Waiting>>,
    next_call: AtomicU64,
    /// When it was started, on the machine's clock.
    started: Duration,
    ready: (Mutex<bool>, Condvar),
    /// The session was ended by this side: that it is gone is no news.
    leaving: AtomicBool,
    /// Something is to be done sooner than usual.
    hurry: (Mutex<bool>, Condvar),
    counting: Counting,
    /// Where the kernel is told to forget; without a kernel there is nothing to forget.
    kernel: OnceLock<Kernel>,
}

impl Client {
    /// A client that still needs a [`Link`]: see [`Client::set_link`].
    pub fn new(options: ClientOptions) -> Arc<Client> {
        let nonce = RandomState::new().build_hasher().finish();
        let config = Config { client: options.client, nonce, patience: options.patience };
        let client = Arc::new(Client {
            machine: Mutex::new(MountMachine::new(config)),
            link: OnceLock::new(),
            calls: Mutex::default(),
            next_call: AtomicU64::new(1),
            started: clock::now(),
            ready: (Mutex::new(false), Condvar::new()),
            leaving: AtomicBool::new(false),
            hurry: (Mutex::new(false), Condvar::new()),
            counting: Counting::default(),
            kernel: OnceLock::new(),
        });
        tick(Arc::downgrade(&client));
        client
    }

    /// Once, before anything is called.
    pub fn set_link(&self, link: Arc<dyn Link>) {
        if self.link.set(link).is_err() {
            tracing::error!("a client was given a second link; the first one stays");
        }
    }

    /// Once, as soon as there is a mount: where its kernel is told to forget what others are about to change.
    fn set_kernel(self: &Arc<Self>, device: OwnedFd) -> std::io::Result<()> {
        let client = Arc::downgrade(self);
        let forgot = move |object, knew| {
            if let Some(client) = client.upgrade() {
                client.drive(Input::Forgot { object, knew });
            }
        };
        let _already = self.kernel.set(Kernel::start(device, forgot)?);
        Ok(())
    }

    /// The same moments on the clock of this process.
    fn kept(&self, valid: Valid) -> Kept {
        if self.kernel.get().is_none() {
            return Kept::default();
        }
        let moment = |micros| (micros > 0).then(|| self.started + Duration::from_micros(micros));
        Kept { entry: moment(valid.entry), attr: moment(valid.attr), pages: valid.pages, quiet: valid.quiet }
    }

    /// Waits until a node has answered.
    pub fn wait_ready(&self, patience: Duration) -> bool {
        let (ready, changed) = &self.ready;
        let guard = ready.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let waited = changed.wait_timeout_while(guard, patience, |ready| !*ready);
        *waited.unwrap_or_else(|poisoned| poisoned.into_inner()).0
    }

    pub fn session(&self) -> Option<SessionId> {
        self.lock().session()
    }

    /// Ends the session: what the cluster keeps for it is freed at once instead of when its lease is over.
    pub fn say_goodbye(&self) {
        self.leaving.store(true, Ordering::SeqCst);
        if let Some(link) = self.link.get() {
            link.tell(ToNode::Goodbye);
        }
    }

    /// What was counted so far.
    pub fn figures(&self) -> (Figures, Stats) {
        (self.counting.so_far(), self.lock().stats())
    }

    fn lock(&self) -> MutexGuard<'_, MountMachine> {
        self.machine.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn now(&self) -> u64 {
        (clock::now() - self.started).as_micros() as u64 + 1
    }

    /// Begins a call; `done` is called when it has ended, perhaps before this returns.
    pub fn begin(self: &Arc<Self>, who: Who, call: Call, done: OnDone) {
        let id = CallId(self.next_call.fetch_add(1, Ordering::Relaxed));
        let span = tracing::debug_span!("call", id = id.0, what = call.name(), uid = who.uid);
        let (what, interruptible) = (call.name(), call.waits_for_others());
        let waiting = Waiting { who, done, what, span, began: Instant::now(), interruptible };
        self.calls.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).insert(id, waiting);
        self.drive(Input::Call { id, cred: who.cred(), call });
    }

    /// Carries out a call and waits for its end: for those who have a thread of their own.
    pub fn call(self: &Arc<Self>, who: Who, call: Call) -> Result<Done, Errno> {
        let (tell, told) = std::sync::mpsc::channel();
        self.begin(
            who,
            call,
            Box::new(move |outcome, _kept| {
                let _gone = tell.send(outcome);
            }),
        );
        told.recv().unwrap_or(Err(Errno::EIO))
    }

    /// Takes what happened and carries out what follows from it.
    pub fn drive(self: &Arc<Self>, input: Input) {
        if let Input::Node(message) = &input {
            self.counting.received(message.name());
        }
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            let mut outputs = Vec::new();
            {
                let mut machine = self.lock();
                let was_ready = machine.is_ready();
                for output in machine.step(self.now(), input) {
                    match output {
                        Output::Tell(ToNode::Ask { keep: false, .. }) => outputs.push(output),
                        Output::Tell(message) => self.tell(message),
                        output => outputs.push(output),
                    }
                }
                if machine.is_waiting_for_kernel() {
                    self.hurry();
                }
                if machine.is_ready() && !was_ready {
                    self.now_ready();
                }
            }
            for output in outputs {
                self.carry_out(output, &mut inputs);
            }
        }
    }

    fn tell(&self, message: ToNode) {
        if self.leaving.load(Ordering::SeqCst) {
            return;
        }
        if let Some(link) = self.link.get() {
            self.counting.sent(message.name());
            link.tell(message);
        }
    }

    /// Wakes the clock, which then ticks faster.
    fn hurry(&self) {
        let (hurry, changed) = &self.hurry;
        let mut hurry = hurry.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if !*hurry {
            *hurry = true;
            changed.notify_one();
        }
    }

    /// Until the next tick is due.
    fn pause(&self) {
        let (hurry, changed) = &self.hurry;
        let hurry = hurry.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let waited = changed.wait_timeout_while(hurry, TICK, |hurry| !*hurry);
        let hurries = std::mem::take(&mut *waited.unwrap_or_else(|poisoned| poisoned.into_inner()).0);
        if hurries {
            std::thread::sleep(SHORT_TICK);
        }
    }

    fn now_ready(&self) {
        let (ready, changed) = &self.ready;
        *ready.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = true;
        changed.notify_all();
    }

    fn carry_out(self: &Arc<Self>, output: Output, inputs: &mut VecDeque<Input>) {
        match output {
            Output::Respond { call, outcome, valid } => {
                let waiting = self.calls.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).remove(&call);
                if let Some(Waiting { done, what, span, began, .. }) = waiting {
                    let took = began.elapsed();
                    self.counting.call(what, took, outcome.is_err());
                    let micros = took.as_micros() as u64;
                    span.in_scope(|| match &outcome {
                        Ok(_) => tracing::debug!(micros, "done"),
                        Err(errno) => tracing::debug!(micros, ?errno, "failed"),
                    });
                    done(outcome, self.kept(valid));
                }
            }
            Output::Tell(ToNode::Ask { id, cred, query, keep: false }) => {
                match self.link.get().and_then(|link| link.ask_now(&cred, &query)) {
                    Some(reply) => {
                        inputs.push_back(Input::Node(ToMount::Answer { id, reply, facts: Vec::new() }));
                    }
                    None => self.tell(ToNode::Ask { id, cred, query, keep: false }),
                }
            }
            Output::Tell(message) => self.tell(message),
            Output::Forget(what) => match (self.kernel.get(), what.object()) {
                (Some(kernel), _) => kernel.forget(what),
                (None, Some(object)) => inputs.push_back(Input::Forgot { object, knew: true }),
                (None, None) => {}
            },
            Output::Put { call, id, data } => {
                let client = self.clone();
                let done: OnPlaced = Box::new(move |outcome| client.drive(Input::Put { call, id, outcome }));
                match self.link.get() {
                    Some(link) => link.put(id, data, done),
                    None => done(Err(SliceFault::Unreachable)),
                }
            }
            Output::Get { call, parts } => {
                let client = self.clone();
                let done: OnParts = Box::new(move |outcome| client.drive(Input::Got { call, outcome }));
                match self.link.get() {
                    Some(link) => link.get(parts, done),
                    None => done(Err(SliceFault::Unreachable)),
                }
            }
            Output::Groups { call } => {
                let pid = {
                    let calls = self.calls.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
                    calls.get(&call).map(|waiting| waiting.who.pid)
                };
                let groups = pid.map(groups_of).unwrap_or_default();
                inputs.push_back(Input::Groups { call, groups });
            }
            Output::Slow(Slow { what, about, waits_for, since, gives_up }) => {
                let (seconds, inode) = (since / 1_000_000, about.map(|ino| ino.0));
                if gives_up {
                    tracing::error!(
                        what,
                        inode,
                        seconds,
                        "gave up waiting for {waits_for}: the program gets ETIMEDOUT"
                    );
                } else {
                    tracing::warn!(what, inode, seconds, "waiting for {waits_for}");
                }
            }
            Output::LocksBroken { ino } => {
                tracing::error!(
                    inode = ino.0,
                    "an operator broke the locks that this mount's programs held on this inode: writing to it fails with \
                     EIO until all of them have closed it"
                );
            }
            Output::Fenced { .. } if self.leaving.load(Ordering::SeqCst) => {}
            Output::Fenced { lost, unlocked } => {
                tracing::error!(
                    lost,
                    ?unlocked,
                    "the cluster ended this mount's session because nothing was heard of it; operations that were under \
                     way failed with EIO, and locks on these inodes are lost: writing to them fails until they are \
                     closed; a new session begins"
                );
            }
        }
    }
}

impl Client {
    /// The library does not hand on the kernel's word that a program wants to stop waiting: so it is looked whether a signal
    /// waits for it.
    fn interrupt_who_is_signalled(self: &Arc<Self>) {
        let signalled: Vec<CallId> = {
            let calls = self.calls.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            let waiting = calls.iter().filter(|(_, waiting)| waiting.interruptible);
            waiting.filter(|(_, waiting)| is_signalled(waiting.who.pid)).map(|(id, _)| *id).collect()
        };
        for call in signalled {
            self.drive(Input::Interrupt { call });
        }
    }
}

/// The client as the kernel's side sees it.
pub struct Calls(pub Arc<Client>);

impl Caller for Calls {
    fn call(&self, who: Who, call: Call, done: OnDone) {
        self.0.begin(who, call, done);
    }

    fn mounted(&self, device: OwnedFd) -> std::io::Result<()> {
        self.0.set_kernel(device)
    }
}

/// Says every now and then that time has passed, for as long as anybody has the client.
fn tick(client: Weak<Client>) {
    let ticking = move || {
        while let Some(client) = client.upgrade() {
            client.drive(Input::Tick);
            client.interrupt_who_is_signalled();
            client.pause();
        }
    };
    if let Err(error) = std::thread::Builder::new().name("baton-tick".into()).spawn(ticking) {
        tracing::error!("cannot start the mount's clock: {error}");
    }
}
