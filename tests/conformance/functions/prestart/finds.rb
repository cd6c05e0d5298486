# frozen_string_literal: true

# What a handler can find out about its process, for the comparison of test_prestart.py.

# Before anything that this file requires.
FEATURES = $LOADED_FEATURES.dup
LOADED_GEMS = Gem.loaded_specs.map { |name, spec| [name, spec.full_name, spec.loaded_from, spec.activated?] }
NAMES = Object.constants.sort
GLOBALS = global_variables.sort
STACK = caller
METHODS = [Object.private_instance_methods(false).sort, TOPLEVEL_BINDING.receiver.singleton_methods.sort]
MAIN = TOPLEVEL_BINDING.local_variables
VARIABLES = [
  $;, $,, $/, $\, $., $VERBOSE, $DEBUG, $-p, $-l, $-a, $*.equal?(ARGV), $!, $@, $?, $~, $_
].map(&:inspect)

require 'etc'
require 'fiddle'
require 'open3'
require 'securerandom'

def status(*names)
  File.readlines('/proc/self/status', chomp: true).select { |line| names.include?(line.split(':').first) }
end

def descriptors
  Dir.children('/proc/self/fd').sort.to_h do |name|
    flags = File.read("/proc/self/fdinfo/#{name}")[/flags:\s*(\d+)/, 1]
    [name, [File.readlink("/proc/self/fd/#{name}").split(':[').first, flags]]
  rescue SystemCallError
    [nil, nil] # the one that lists them
  end.compact
end

def text(string)
  [string.dup.force_encoding('UTF-8'), string.encoding, string.frozen?]
end

def homes
  [Gem.user_dir, Gem.user_home, Gem.data_home, Gem.config_home, Gem.cache_home, Gem.path, Gem.dir]
end

def find
  {
    descriptors: descriptors,
    environment: ENV.map { |name, value| [text(name), text(value)] },
    subprocess: Open3.capture2('env').first,
    subprocess_descriptors: `ls -l /proc/self/fd`.scan(/\d+ -> [a-z:]+/),
    argv: ARGV.map { |word| text(word) },
    program: [text($PROGRAM_NAME), text(Process.argv0), text($0)],
    ruby: [RbConfig.ruby, RUBY_DESCRIPTION],
    directory: [Dir.pwd, Dir.pwd.encoding],
    load_path: $LOAD_PATH.map { |folder| text(folder) },
    features: FEATURES,
    features_now: $LOADED_FEATURES,
    names: NAMES,
    own_names: PilotlightRuntime.constants.sort,
    globals: GLOBALS,
    methods: METHODS,
    main: [MAIN, TOPLEVEL_BINDING.receiver.inspect],
    gems: LOADED_GEMS,
    gems_now: Gem.loaded_specs.keys,
    gem_paths: homes,
    gem_names: Gem::Specification.map(&:full_name).sort,
    gem_state: Gem.instance_variables.sort.map { |name| [name, Gem.instance_variable_get(name).class] },
    home: begin Dir.home rescue $!.message end,
    encodings: [Encoding.default_external, Encoding.default_internal, __ENCODING__],
    found_encodings: [Encoding.find('locale'), Encoding.find('filesystem')],
    stdin: [
      $stdin.inspect, $stdin.equal?(STDIN), $stdin.external_encoding, $stdin.internal_encoding, $stdin.sync,
      $stdin.lineno, $stdin.autoclose?, $stdin.close_on_exec?, $stdin.stat.ftype, $stdin.read,
    ],
    stdout: [$stdout.inspect, $stdout.sync, $stdout.external_encoding, $stdout.equal?(STDOUT), $stderr.sync],
    variables: VARIABLES,
    data: Object.const_defined?(:DATA),
    handlers: Signal.list.to_h do |name, _number|
      before = %w[KILL STOP VTALRM SEGV BUS ILL FPE].include?(name) ? nil : trap(name, 'DEFAULT')
      trap(name, before) if before
      [name, before.inspect]
    rescue ArgumentError => error
      [name, error.message]
    end,
    signals: status('SigBlk', 'SigIgn', 'SigCgt', 'ShdPnd', 'SigPnd'),
    user: [Process.uid, Process.euid, Process.gid, Process.groups],
    rights: status('CapEff', 'NoNewPrivs', 'Seccomp'),
    umask: File.umask,
    limits: File.read('/proc/self/limits'),
    group: [Process.getpgrp == Process.pid, Process.getsid == Process.pid],
    niceness: Process.getpriority(Process::PRIO_PROCESS, 0),
    name: File.read('/proc/self/comm'),
    threads: [Thread.list.size, Thread.main.equal?(Thread.current), Thread.current.name],
    thread: [Thread.report_on_exception, Thread.abort_on_exception, Thread.current.keys],
    time: [Time.at(0).to_s, Time.now.zone, Time.at(2_000_000_000).utc_offset],
    gc: [GC.stress, GC.disable, GC.enable, GC.measure_total_time],
    warnings: [Warning[:deprecated], Warning[:experimental], $-w, $-W],
    stack: STACK,
    stack_now: caller,
    script_lines: Object.const_defined?(:SCRIPT_LINES__),
    logger: [Logger::ProgName, Logger.new($stdout).level],
    json: [JSON::VERSION, JSON.generator, JSON.parser, JSON.state].map(&:to_s),
    traced: [TracePoint.stat.size],
  }
end

def draw
  {
    random: rand, seed: Random.new_seed, default: Random.seed, secure: SecureRandom.hex(8),
    hash: 'text'.hash, process: Process.pid,
  }
end

def kernel
  read = ->(name) { File.read("/proc/self/#{name}").split("\0") }
  { cmdline: read.call('cmdline'), environ: read.call('environ').sort }
end

def place(library)
  Fiddle.dlopen(library)
  mapped = File.readlines('/proc/self/maps', chomp: true).find { |line| line.end_with?(library) }
  mapped.split('/')[-3..-2].join('/')
rescue Fiddle::DLError => error
  error.message
end

def handler(event:, context:)
  case event['do']
  when 'find' then find
  when 'draw' then draw
  when 'kernel' then kernel
  when 'fail' then raise ArgumentError, 'as it was asked to'
  when 'load' then place(event['library'])
  when 'whose'
    require event['module']
    whose
  when 'homes' then homes
  when 'version' then Gem.loaded_specs.fetch(event['gem']).full_gem_path
  end
end
