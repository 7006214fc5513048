use serde::{Deserialize, Serialize};

macro_rules! errnos {
    ($($name:ident = $code:literal, $text:literal;)*) => {
        /// What an operation can fail with, each with Linux's number and what it tells a person.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, thiserror::Error)]
        pub enum Errno {
            $(#[error($text)] $name,)*
        }

        impl Errno {
            pub const ALL: &'static [Errno] = &[$(Errno::$name),*];

            /// The number the kernel knows it by.
            pub fn code(self) -> i32 {
                match self { $(Errno::$name => $code,)* }
            }

            /// The error with that number, if Baton knows it.
            pub fn from_code(code: i32) -> Option<Errno> {
                match code { $($code => Some(Errno::$name),)* _ => None }
            }
        }
    };
}

errnos! {
    EPERM = 1, "operation not permitted";
    ENOENT = 2, "no such file or directory";
    EINTR = 4, "interrupted";
    EIO = 5, "input/output error";
    ENXIO = 6, "no such data or device";
    E2BIG = 7, "argument list too long";
    EBADF = 9, "bad file handle";
    EAGAIN = 11, "try again";
    EACCES = 13, "permission denied";
    EBUSY = 16, "busy";
    EEXIST = 17, "exists already";
    EXDEV = 18, "across two file systems";
    ENODEV = 19, "no such device";
    ENOTDIR = 20, "not a directory";
    EISDIR = 21, "is a directory";
    EINVAL = 22, "invalid argument";
    ETXTBSY = 26, "program file is busy";
    EFBIG = 27, "file too large";
    ENOSPC = 28, "no space left";
    EROFS = 30, "read-only file system";
    EMLINK = 31, "too many links";
    ERANGE = 34, "result does not fit";
    EDEADLK = 35, "a deadlock would result";
    ENAMETOOLONG = 36, "name too long";
    ENOLCK = 37, "no locks available";
    ENOSYS = 38, "not implemented";
    ENOTEMPTY = 39, "directory not empty";
    ELOOP = 40, "too many symbolic links";
    ENODATA = 61, "no such attribute";
    EOVERFLOW = 75, "value too large";
    EOPNOTSUPP = 95, "not supported";
    ETIMEDOUT = 110, "timed out";
    ESTALE = 116, "the object is gone";
    EDQUOT = 122, "quota exceeded";
}

impl From<super::BadName> for Errno {
    fn from(bad: super::BadName) -> Errno {
        match bad {
            super::BadName::TooLong => Errno::ENAMETOOLONG,
            super::BadName::Empty => Errno::ENOENT,
            super::BadName::Forbidden | super::BadName::Dots => Errno::EINVAL,
            super::BadName::Namespace => Errno::EOPNOTSUPP,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_has_its_own_number() {
        for e in Errno::ALL {
            assert_eq!(Errno::from_code(e.code()), Some(*e));
        }
    }
}
