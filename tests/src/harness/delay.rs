use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

/// A way to an address that takes long: what goes in comes out so much later, in each direction.
pub struct Delay {
    address: SocketAddr,
}

impl Delay {
    /// The way stays for as long as the test's process lives.
    pub fn to(target: &str, each_way: Duration) -> Delay {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("its address");
        let target = target.to_owned();
        thread::spawn(move || {
            for near in listener.incoming().flatten() {
                // Who cannot be reached hangs up, at once: a delay of that would say nothing more.
                let Ok(far) = TcpStream::connect(&target) else { continue };
                let ends = [&near, &far].map(|stream| stream.set_nodelay(true).and_then(|()| stream.try_clone()));
                if let [Ok(near_again), Ok(far_again)] = ends {
                    carry(near, far, each_way);
                    carry(far_again, near_again, each_way);
                }
            }
        });
        Delay { address }
    }

    pub fn address(&self) -> String {
        self.address.to_string()
    }
}

fn carry(mut from: TcpStream, mut to: TcpStream, delay: Duration) {
    let (sent, due) = channel::<(Instant, Vec<u8>)>();
    thread::spawn(move || {
        let mut buffer = vec![0; 64 * 1024];
        // An end and an error end the way alike.
        while let Ok(got @ 1..) = from.read(&mut buffer) {
            if sent.send((Instant::now() + delay, buffer[..got].to_vec())).is_err() {
                return;
            }
        }
    });
    thread::spawn(move || {
        for (when, bytes) in due {
            thread::sleep(when.saturating_duration_since(Instant::now()));
            if to.write_all(&bytes).is_err() {
                break;
            }
        }
        let _gone_already = to.shutdown(std::net::Shutdown::Both);
    });
}
