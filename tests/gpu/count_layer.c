// A Vulkan layer that counts what a program asks of a GPU, on any driver; for one instance and one device.
// count.sh builds it. At the end of the program it writes one line of counts to the file COUNT_OUT names.
#define VK_NO_PROTOTYPES
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <vulkan/vk_layer.h>
#include <vulkan/vulkan.h>

// Functions that are counted: result, name, parameters, arguments.
#define COUNTED(X) \
  X(void, CmdDispatch, (VkCommandBuffer a, uint32_t x, uint32_t y, uint32_t z), (a, x, y, z)) \
  X(void, CmdCopyBuffer, (VkCommandBuffer a, VkBuffer b, VkBuffer c, uint32_t n, const VkBufferCopy *r), (a, b, c, n, r)) \
  X(VkResult, QueueSubmit, (VkQueue a, uint32_t n, const VkSubmitInfo *s, VkFence f), (a, n, s, f)) \
  X(VkResult, CreateComputePipelines, (VkDevice a, VkPipelineCache b, uint32_t n, const VkComputePipelineCreateInfo *i, \
    const VkAllocationCallbacks *c, VkPipeline *p), (a, b, n, i, c, p))

#define DECLARE(result, name, parameters, arguments) \
  static PFN_vk##name next_##name; \
  static _Atomic long count_##name; \
  static VKAPI_ATTR result VKAPI_CALL my_##name parameters { count_##name++; return next_##name arguments; }
COUNTED(DECLARE)

// Buffers also have a largest one.
static PFN_vkCreateBuffer next_CreateBuffer;
static _Atomic long count_CreateBuffer, largest_buffer;
static VKAPI_ATTR VkResult VKAPI_CALL my_CreateBuffer(VkDevice a, const VkBufferCreateInfo *i, const VkAllocationCallbacks *c, VkBuffer *b) {
  count_CreateBuffer++;
  if ((long)i->size > largest_buffer) largest_buffer = (long)i->size;
  return next_CreateBuffer(a, i, c, b);
}

static PFN_vkGetInstanceProcAddr next_instance;
static PFN_vkGetDeviceProcAddr next_device;
static VkInstance instance;

static void write_counts(void) {
  FILE *out = fopen(getenv("COUNT_OUT") ? getenv("COUNT_OUT") : "/dev/stderr", "w");
  if (!out) return;
#define PRINT(result, name, parameters, arguments) fprintf(out, #name "=%ld ", atomic_load(&count_##name));
  COUNTED(PRINT)
  fprintf(out, "CreateBuffer=%ld largest_buffer=%ld\n", atomic_load(&count_CreateBuffer), atomic_load(&largest_buffer));
  fclose(out);
}

static VKAPI_ATTR VkResult VKAPI_CALL my_CreateInstance(const VkInstanceCreateInfo *info, const VkAllocationCallbacks *c, VkInstance *made) {
  VkLayerInstanceCreateInfo *link = (void *)info->pNext;
  while (link && !(link->sType == VK_STRUCTURE_TYPE_LOADER_INSTANCE_CREATE_INFO && link->function == VK_LAYER_LINK_INFO))
    link = (void *)link->pNext;
  if (!link) return VK_ERROR_INITIALIZATION_FAILED;
  next_instance = link->u.pLayerInfo->pfnNextGetInstanceProcAddr;
  link->u.pLayerInfo = link->u.pLayerInfo->pNext;
  VkResult result = ((PFN_vkCreateInstance)next_instance(VK_NULL_HANDLE, "vkCreateInstance"))(info, c, made);
  instance = *made;
  static int once;
  if (!once++) atexit(write_counts);
  return result;
}

static VKAPI_ATTR VkResult VKAPI_CALL my_CreateDevice(VkPhysicalDevice physical, const VkDeviceCreateInfo *info, const VkAllocationCallbacks *c, VkDevice *made) {
  VkLayerDeviceCreateInfo *link = (void *)info->pNext;
  while (link && !(link->sType == VK_STRUCTURE_TYPE_LOADER_DEVICE_CREATE_INFO && link->function == VK_LAYER_LINK_INFO))
    link = (void *)link->pNext;
  if (!link) return VK_ERROR_INITIALIZATION_FAILED;
  PFN_vkGetInstanceProcAddr of_instance = link->u.pLayerInfo->pfnNextGetInstanceProcAddr;
  next_device = link->u.pLayerInfo->pfnNextGetDeviceProcAddr;
  link->u.pLayerInfo = link->u.pLayerInfo->pNext;
  VkResult result = ((PFN_vkCreateDevice)of_instance(instance, "vkCreateDevice"))(physical, info, c, made);
  if (result) return result;
#define LOAD(result, name, parameters, arguments) next_##name = (PFN_vk##name)next_device(*made, "vk" #name);
  COUNTED(LOAD)
  next_CreateBuffer = (PFN_vkCreateBuffer)next_device(*made, "vkCreateBuffer");
  return result;
}

static PFN_vkVoidFunction mine(const char *name) {
#define MINE(result, function, parameters, arguments) \
  if (!strcmp(name, "vk" #function) && next_##function) return (PFN_vkVoidFunction)my_##function;
  COUNTED(MINE)
  if (!strcmp(name, "vkCreateBuffer") && next_CreateBuffer) return (PFN_vkVoidFunction)my_CreateBuffer;
  return NULL;
}

static VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL of_device(VkDevice device, const char *name) {
  if (!strcmp(name, "vkGetDeviceProcAddr")) return (PFN_vkVoidFunction)of_device;
  PFN_vkVoidFunction found = mine(name);
  return found ? found : next_device(device, name);
}

static VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL of_instance(VkInstance asked, const char *name) {
  if (!strcmp(name, "vkGetInstanceProcAddr")) return (PFN_vkVoidFunction)of_instance;
  if (!strcmp(name, "vkCreateInstance")) return (PFN_vkVoidFunction)my_CreateInstance;
  if (!strcmp(name, "vkCreateDevice")) return (PFN_vkVoidFunction)my_CreateDevice;
  if (!strcmp(name, "vkGetDeviceProcAddr")) return (PFN_vkVoidFunction)of_device;
  PFN_vkVoidFunction found = mine(name);
  return found ? found : next_instance ? next_instance(asked, name) : NULL;
}

__attribute__((visibility("default"))) VKAPI_ATTR VkResult VKAPI_CALL vkNegotiateLoaderLayerInterfaceVersion(VkNegotiateLayerInterface *v) {
  v->loaderLayerInterfaceVersion = 2;
  v->pfnGetInstanceProcAddr = of_instance;
  v->pfnGetDeviceProcAddr = of_device;
  v->pfnGetPhysicalDeviceProcAddr = NULL;
  return VK_SUCCESS;
}
