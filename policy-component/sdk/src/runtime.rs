//! Runtime of a component without the standard library: an allocator, the function through which
//! the host allocates in it, and a handler for panics.
//!
//! It never does anything on another target than wasm32.

#[cfg(target_arch = "wasm32")]
#[doc(hidden)]
pub use dlmalloc::GlobalDlmalloc as Allocator;

// The compiler turns comparisons of strings into calls of `memcmp`, which Rust leaves to the C
// library on this target. Of that library the linker takes what is called, and this one function
// calls nothing else.
#[cfg(target_arch = "wasm32")]
#[link(name = "c")]
#[expect(unsafe_code, reason = "names a library and declares nothing")]
unsafe extern "C" {}

/// Allocates memory for values that the host passes in, with C's `realloc` as its model.
///
/// # Safety
///
/// `old` is null or came from here with `old_size` and `align`; `align` is a power of two. The
/// component model promises both.
#[cfg(target_arch = "wasm32")]
#[doc(hidden)]
#[expect(unsafe_code, reason = "the component model passes memory as raw addresses")]
pub unsafe fn reallocate(old: *mut u8, old_size: usize, align: usize, new_size: usize) -> *mut u8 {
    use alloc::alloc::{alloc, realloc};
    use core::{alloc::Layout, ptr};

    if new_size == 0 {
        return ptr::without_provenance_mut(align);
    }
    let size = if old_size == 0 { new_size } else { old_size };
    let Ok(layout) = Layout::from_size_align(size, align) else { abort() };
    // SAFETY: neither size is zero, and the caller vouches for `old`.
    let new = unsafe { if old_size == 0 { alloc(layout) } else { realloc(old, layout, new_size) } };
    if new.is_null() { abort() } else { new }
}

/// Traps, which ends the call; Portcullis denies the request and drops the instance.
#[cfg(target_arch = "wasm32")]
#[doc(hidden)]
pub fn abort() -> ! {
    core::arch::wasm32::unreachable()
}

/// Gives a `#![no_std]` policy a global allocator and a panic handler, once per component.
///
/// Leave it out where the standard library is linked, which has both. It expands to nothing on
/// other targets than wasm32, so that tests of the same crate run natively; begin such a crate with
/// `#![cfg_attr(target_arch = "wasm32", no_std)]`.
///
/// It is a macro rather than a feature of this crate, because Cargo would switch a feature on for
/// all policies of a workspace, those with the standard library included.
#[macro_export]
macro_rules! no_std_runtime {
    () => {
        #[cfg(target_arch = "wasm32")]
        #[global_allocator]
        static ALLOCATOR: $crate::__private::Allocator = $crate::__private::Allocator;

        // On this target wit-bindgen leaves it to the C library, which such a policy does not link.
        #[cfg(target_arch = "wasm32")]
        #[unsafe(no_mangle)]
        unsafe extern "C" fn cabi_realloc(
            old: *mut u8,
            old_size: usize,
            align: usize,
            new_size: usize,
        ) -> *mut u8 {
            // SAFETY: the component model keeps the promises that `reallocate` asks for.
            unsafe { $crate::__private::reallocate(old, old_size, align, new_size) }
        }

        #[cfg(target_arch = "wasm32")]
        #[panic_handler]
        fn trap(_: &::core::panic::PanicInfo<'_>) -> ! {
            $crate::__private::abort()
        }
    };
}
