//! Nothing is borrowed across a call-out: the token that makes the compiler check it.
//!
//! What a core owns lies in one [`TokenCell`]. It lends its contents only against `&mut Token`; every function
//! that calls into an application takes the same `&mut Token`, so that a borrow alive across a callback does
//! not compile. Inside the callback the application may call back: the C entry, which alone may make a token,
//! makes another one, and no borrow can be alive then.

use std::cell::UnsafeCell;
use std::marker::PhantomData;

/// Proof that the holder may touch the core's state, and that no borrow of it is alive.
#[derive(Debug)]
pub struct Token {
    // A token stays on the thread that holds the core's lock.
    _local: PhantomData<*const ()>,
}

impl Token {
    /// Makes a token.
    ///
    /// # Safety
    /// The calling thread holds the lock of the one core it uses the token for, and every other token made on
    /// this thread for that core is lent to a call-out that is in progress (so that nothing borrows by it).
    #[allow(unsafe_code)]
    pub unsafe fn new() -> Self {
        Token { _local: PhantomData }
    }
}

/// A cell that lends its contents against a token.
#[derive(Debug, Default)]
pub struct TokenCell<T> {
    value: UnsafeCell<T>,
}

// SAFETY: contents are reached only through a token, and a token exists only on the thread that holds the lock.
#[allow(unsafe_code)]
unsafe impl<T: Send> Sync for TokenCell<T> {}

impl<T> TokenCell<T> {
    /// Wraps a value.
    pub fn new(value: T) -> Self {
        TokenCell { value: UnsafeCell::new(value) }
    }

    /// The contents, while nobody else can have the cell.
    pub fn get_mut(&mut self) -> &mut T {
        self.value.get_mut()
    }

    /// Lends the contents for as long as the token is not needed elsewhere.
    #[inline]
    #[allow(unsafe_code)]
    pub fn get<'a>(&'a self, _token: &'a mut Token) -> &'a mut T {
        // SAFETY: `_token` is borrowed mutably for 'a, so no other loan by it is alive; tokens for this cell exist
        // on one thread only, and any other one is lent to a call-out in progress (see `Token::new`).
        unsafe { &mut *self.value.get() }
    }

    /// Lends the contents for reading; as [`get`](Self::get), but several such loans may be alive.
    #[inline]
    #[allow(unsafe_code)]
    pub fn view<'a>(&'a self, _token: &'a Token) -> &'a T {
        // SAFETY: `_token` is borrowed for 'a, so no exclusive loan by it is alive; tokens for this cell exist on one
        // thread only, and any other one is lent to a call-out in progress (see `Token::new`).
        unsafe { &*self.value.get() }
    }
}
