#include "core/base/shared_library.h"

#include <gmock/gmock.h>

#include "core/base/error.h"

namespace torpor {
namespace {

using ::testing::HasSubstr;

TEST(SharedLibrary, FindsFunctionsAndNamesWhatIsMissing) {
  const SharedLibrary math("libm.so.6");
  EXPECT_EQ(math.find<double(double)>("floor")(2.75), 2);
  try {
    math.find<void()>("torpor_no_such_function");
    FAIL();
  } catch (const IoError& error) {
    EXPECT_THAT(error.what(), HasSubstr("libm.so.6 lacks the function torpor_no_such_function"));
  }
  try {
    const SharedLibrary none("libtorpor-none.so.1", SharedLibrary::Names::of_the_library);
    FAIL();
  } catch (const IoError& error) {
    EXPECT_THAT(error.what(), HasSubstr("libtorpor-none.so.1"));
  }
}

}  // namespace
}  // namespace torpor
