//! The calls on the process: arguments, environment, clocks, randomness; and those that there is
//! nothing behind.

use super::Errno;
use super::call::{Call, wide};
use super::types;

impl Call<'_> {
    pub(super) fn args_sizes_get(&mut self, count: u32, bytes: u32) -> Result<(), Errno> {
        let args = self.args();
        self.put_sizes(&args, count, bytes)
    }

    pub(super) fn args_get(&mut self, pointers: u32, buffer: u32) -> Result<(), Errno> {
        let args = self.args();
        self.put_strings(&args, pointers, buffer)
    }

    pub(super) fn environ_sizes_get(&mut self, count: u32, bytes: u32) -> Result<(), Errno> {
        let env = self.env();
        self.put_sizes(&env, count, bytes)
    }

    pub(super) fn environ_get(&mut self, pointers: u32, buffer: u32) -> Result<(), Errno> {
        let env = self.env();
        self.put_strings(&env, pointers, buffer)
    }

    pub(super) fn clock_res_get(&mut self, id: u32, result: u32) -> Result<(), Errno> {
        types::clock(id)?;
        // The unit, not the grain of the host's clock, so that it does not change under a cell that
        // moves.
        self.memory.put_u64(result, 1)
    }

    pub(super) fn clock_time_get(
        &mut self,
        id: u32,
        _precision: u64,
        result: u32,
    ) -> Result<(), Errno> {
        let clock = types::clock(id)?;
        self.memory.get(result, 8)?;
        let now = self.host.clock(clock);
        self.memory.put_u64(result, now)
    }

    pub(super) fn random_get(&mut self, at: u32, len: u32) -> Result<(), Errno> {
        self.host.random(self.memory.get_mut(at, len)?);
        Ok(())
    }

    pub(super) fn sock_accept(&mut self, fd: u32) -> Result<(), Errno> {
        self.no_socket(fd)
    }

    pub(super) fn sock_recv(&mut self, fd: u32) -> Result<(), Errno> {
        self.no_socket(fd)
    }

    pub(super) fn sock_send(&mut self, fd: u32) -> Result<(), Errno> {
        self.no_socket(fd)
    }

    pub(super) fn sock_shutdown(&mut self, fd: u32) -> Result<(), Errno> {
        self.no_socket(fd)
    }

    fn no_socket(&mut self, fd: u32) -> Result<(), Errno> {
        self.host.wasi().table.get(fd)?;
        Err(Errno::NotSock)
    }

    fn args(&mut self) -> Vec<Vec<u8>> {
        self.host
            .wasi()
            .args
            .iter()
            .map(|arg| terminated(arg.as_bytes().to_vec()))
            .collect()
    }

    fn env(&mut self) -> Vec<Vec<u8>> {
        let env = self.host.wasi().env.iter();
        env.map(|(name, value)| terminated(format!("{name}={value}").into_bytes()))
            .collect()
    }

    fn put_sizes(&mut self, strings: &[Vec<u8>], count: u32, bytes: u32) -> Result<(), Errno> {
        self.memory.put_len(count, strings.len())?;
        self.memory
            .put_len(bytes, strings.iter().map(Vec::len).sum())
    }

    fn put_strings(
        &mut self,
        strings: &[Vec<u8>],
        pointers: u32,
        buffer: u32,
    ) -> Result<(), Errno> {
        let (mut pointer, mut place) = (u64::from(pointers), u64::from(buffer));
        for string in strings {
            let at = address(place)?;
            self.memory.put_u32(address(pointer)?, at)?;
            self.memory.put(at, string)?;
            pointer += 4;
            place += wide(string.len());
        }
        Ok(())
    }
}

fn terminated(mut string: Vec<u8>) -> Vec<u8> {
    string.push(0);
    string
}

fn address(at: u64) -> Result<u32, Errno> {
    u32::try_from(at).map_err(|_| Errno::Fault)
}
