#include "engine/kernels/onednn.h"

#include "core/base/error.h"
#include "core/base/shared_library.h"

namespace torpor {
namespace {

OneDnn open_library() {
  const SharedLibrary library(TORPOR_ONEDNN_FILE, SharedLibrary::Names::of_the_library);
  const auto set = [&]<typename Function>(Function*& function, const char* symbol) {
    function = library.find<Function>(symbol);
  };
  OneDnn functions;
  set(functions.sgemm, "dnnl_sgemm");
  set(functions.set_num_threads, "omp_set_num_threads");  // of what it is linked to
  set(functions.max_threads, "omp_get_max_threads");
  set(functions.engine_create, "dnnl_engine_create");
  set(functions.stream_create, "dnnl_stream_create");
  set(functions.stream_destroy, "dnnl_stream_destroy");
  set(functions.memory_desc_init_by_strides, "dnnl_memory_desc_init_by_strides");
  set(functions.memory_create, "dnnl_memory_create");
  set(functions.memory_destroy, "dnnl_memory_destroy");
  set(functions.matmul_desc_init, "dnnl_matmul_desc_init");
  set(functions.primitive_desc_create, "dnnl_primitive_desc_create");
  set(functions.primitive_desc_destroy, "dnnl_primitive_desc_destroy");
  set(functions.primitive_create, "dnnl_primitive_create");
  set(functions.primitive_destroy, "dnnl_primitive_destroy");
  set(functions.primitive_execute, "dnnl_primitive_execute");
  return functions;
}

void check(dnnl_status_t status, const Bf16Product& p) {
  if (status != dnnl_success)
    throw IoError("oneDNN refused a bf16 matrix product of {} x {} by {} (status {})", p.rows, p.in, p.out,
                  static_cast<int>(status));
}

/// What a create function of the library made, destroyed by its destroy function.
template <class Object>
class Owned {
 public:
  explicit Owned(dnnl_status_t (*destroy)(Object*)) : destroy_(destroy) {}
  ~Owned() {
    if (object_ != nullptr) destroy_(object_);
  }
  Owned(const Owned&) = delete;
  Owned& operator=(const Owned&) = delete;

  Object** made() { return &object_; }
  Object* get() const { return object_; }

 private:
  dnnl_status_t (*destroy_)(Object*);
  Object* object_ = nullptr;
};

/// Of the whole process, to its end.
dnnl_engine_t cpu_engine(const OneDnn& library) {
  static const dnnl_engine_t engine = [&] {
    dnnl_engine_t made = nullptr;
    if (const dnnl_status_t status = library.engine_create(&made, dnnl_cpu, 0); status != dnnl_success)
      throw IoError("oneDNN has no engine for this processor (status {})", static_cast<int>(status));
    return made;
  }();
  return engine;
}

}  // namespace

const OneDnn& onednn() {
  static const OneDnn functions = open_library();
  return functions;
}

// All objects anew for each product: oneDNN keeps the code that it has made (5 us from the second time on).
void multiply(const Bf16Product& p) {
  const OneDnn& library = onednn();
  const dnnl_engine_t engine = cpu_engine(library);
  const auto describe = [&](std::int64_t height, std::int64_t width, dnnl_data_type_t type, std::int64_t down,
                            std::int64_t right) {
    const dnnl_dims_t dims = {height, width}, strides = {down, right};
    dnnl_memory_desc_t made;
    check(library.memory_desc_init_by_strides(&made, 2, dims, type, strides), p);
    return made;
  };
  const dnnl_memory_desc_t x = describe(p.rows, p.in, dnnl_bf16, p.in, 1);
  const dnnl_memory_desc_t w = describe(p.in, p.out, dnnl_bf16, p.turned ? 1 : p.w_stride, p.turned ? p.w_stride : 1);
  const dnnl_memory_desc_t y = describe(p.rows, p.out, dnnl_f32, p.y_stride, 1);
  dnnl_matmul_desc_t what;
  check(library.matmul_desc_init(&what, &x, &w, nullptr, &y), p);
  Owned<dnnl_primitive_desc> how(library.primitive_desc_destroy);
  check(library.primitive_desc_create(how.made(), &what, nullptr, engine, nullptr), p);
  Owned<dnnl_primitive> product(library.primitive_destroy);
  check(library.primitive_create(product.made(), how.get()), p);
  Owned<dnnl_stream> stream(library.stream_destroy);
  check(library.stream_create(stream.made(), engine, dnnl_stream_default_flags), p);
  Owned<dnnl_memory> x_memory(library.memory_destroy), w_memory(library.memory_destroy),
      y_memory(library.memory_destroy);
  check(library.memory_create(x_memory.made(), &x, engine, const_cast<std::uint16_t*>(p.x)), p);
  check(library.memory_create(w_memory.made(), &w, engine, const_cast<std::uint16_t*>(p.w)), p);
  check(library.memory_create(y_memory.made(), &y, engine, p.y), p);
  const dnnl_exec_arg_t arguments[] = {
      {DNNL_ARG_SRC, x_memory.get()}, {DNNL_ARG_WEIGHTS, w_memory.get()}, {DNNL_ARG_DST, y_memory.get()}};
  check(library.primitive_execute(product.get(), stream.get(), 3, arguments), p);  // done when it returns, on a CPU
}

}  // namespace torpor
