// A shared library that is opened when it is first needed.
#pragma once

namespace torpor {

/// Stays open to the end of the process. Const methods may run at once.
class SharedLibrary {
 public:
  /// Whose functions the library's own calls reach where several have the same name.
  enum class Names {
    of_the_program,  // the usual order
    of_the_library,  // its own and those of what it is linked to come first (not under sanitizers, which refuse it)
  };

  /// file: as the linker spells it ("libdnnl.so.2"); must outlive the object. Throws IoError with the system's reason.
  explicit SharedLibrary(const char* file, Names names = Names::of_the_program);

  /// The function of this name, as the compiler spells it; also of what the library is linked to. Throws IoError where
  /// it has none.
  template <typename Function>
  Function* find(const char* symbol) const {
    return reinterpret_cast<Function*>(address_of(symbol));
  }

 private:
  void* address_of(const char* symbol) const;

  const char* file_;
  void* handle_;
};

}  // namespace torpor
