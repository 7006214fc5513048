//! What things are called when nobody says.

use std::path::PathBuf;

/// This machine and where the mount is, for people who look at `baton status`.
pub(crate) fn client(mountpoint: &std::path::Path) -> String {
    let host = rustix::system::uname();
    let mut name = format!("{}:{}", host.nodename().to_string_lossy(), mountpoint.display());
    while name.len() > baton_proto::CLIENT_MAX {
        name.pop();
    }
    name
}

/// The user's data folder, as the XDG rules have it.
pub(crate) fn data_folder() -> Option<PathBuf> {
    let from = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    Some(from("XDG_DATA_HOME").or_else(|| Some(from("HOME")?.join(".local/share")))?.join("baton"))
}

/// `host:port,host:port`, each checked.
pub(crate) fn addresses(text: &str) -> Result<Vec<String>, crate::failure::Failure> {
    let addresses: Vec<String> = text.split(',').map(|a| a.trim().to_owned()).filter(|a| !a.is_empty()).collect();
    if addresses.is_empty() {
        return Err(crate::failure::Failure::Usage("no address was given; expected HOST:PORT[,HOST:PORT...]".into()));
    }
    for address in &addresses {
        baton_node::config::check_address("address", address)?;
    }
    Ok(addresses)
}
