#!/bin/sh
# The device's tests on a device that a machine without a GPU has: Mesa's software Vulkan driver (llvmpipe). ggml's
# Vulkan backend is built as a library from the very source this program is built with, and the tests load it.
# Wants libvulkan-dev glslc spirv-headers mesa-vulkan-drivers and ninja-build; shaders that no test runs stay empty.
#   scripts/device-tests.sh [validate]      validate: under Khronos' validation layer (vulkan-validationlayers)
set -eu
cd "$(dirname "$0")/.."
. scripts/env.sh
root=$PWD
work=${CARGO_TARGET_DIR:-$root/target}/device-tests
sys=$(cargo metadata --format-version 1 --locked --filter-platform "$(rustc -vV | sed -n 's|host: ||p')" | tr ',' '\n' | sed -n 's|.*"\(/[^"]*llama-cpp-sys-2-[^"/]*\)/Cargo.toml".*|\1|p' | head -1)
mkdir -p "$work"
rm -rf "$work/ggml"
cp -r "$sys/llama.cpp/ggml" "$work/ggml"
patch -s -p1 -d "$work/ggml/src/ggml-vulkan" <scripts/device-tests.patch
printf 'cmake_minimum_required(VERSION 3.19)\nproject(device-tests C CXX ASM)\nadd_subdirectory(ggml)\n' \
  >"$work/CMakeLists.txt"

# glslc, and an empty shader in place of those for types and operations that the tests do not have.
printf '#version 450\nlayout(local_size_x = 1) in;\nvoid main() {}\n' >"$work/empty.comp"
glslc -fshader-stage=compute --target-env=vulkan1.2 "$work/empty.comp" -o "$work/empty.spv"
cat >"$work/glslc" <<END
#!/bin/bash
for word in "\$@"; do [ "\${before:-}" = -o ] && out=\$word; before=\$word; done
types='DATA_A_(Q4_1|Q5_|Q[1236]_|Q4_K|IQ|MXFP4|NVFP4|TQ|BF16)|MUL_MAT_ID'
names='/(flash_attn|conv|wkv|ssm|dsv4|gated|solve|topk|im2col|lightning|pool|argsort|opt_step|copy_(to|from)_quant|set_rows)'
if [ "\$out" != - ] && [[ "\$*" =~ \$types || "\$*" =~ \$names ]]; then exec cp "$work/empty.spv" "\$out"; fi
exec $(command -v glslc) "\$@"
END
chmod +x "$work/glslc"

cmake -G Ninja -S "$work" -B "$work/build" -DCMAKE_BUILD_TYPE=Release -DCMAKE_CXX_FLAGS_RELEASE=-O1 \
  -DBUILD_SHARED_LIBS=ON -DGGML_BACKEND_DL=ON -DGGML_CPU=OFF -DGGML_OPENMP=OFF -DGGML_VULKAN=ON \
  -DVulkan_GLSLC_EXECUTABLE="$work/glslc" >"$work/cmake.log"
ninja -C "$work/build" ggml-vulkan >"$work/ninja.log"

[ "${1:-}" != validate ] || export VK_INSTANCE_LAYERS=VK_LAYER_KHRONOS_validation
export GGML_VK_VISIBLE_DEVICES=0 LD_LIBRARY_PATH="$work/build/ggml/src"
export TILLERMAN_TEST_LIBRARY="$work/build/bin/libggml-vulkan.so" TILLERMAN_TEST_DEVICE=Vulkan0
cargo test --release --lib train::device::tests -- --test-threads 1 --nocapture
