# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# A private httpd: own ServerRoot, ports, logs and users of nothing else on
# this machine.  Several may run in one test.
#
#     my $httpd = Httpd->start(
#         modules => [qw(rewrite headers)],
#         files   => { 'a.php' => '<?php echo 1;' },
#         vars    => { BACKEND => $app->handler },
#         config  => <<'EOC');
#     <Location /app>
#       SetHandler @BACKEND@
#     </Location>
#     EOC
#     my $answer = Client->get($httpd->port, '/app/x');
#     $httpd->wait_for_log(qr/gone/, 5) or die $httpd->error_log;
#     $httpd->ok_healthy;
#
# Options, all optional.  Texts may use @ROOT@, @DOCROOT@, @PORT@, @TLS_PORT@
# and what vars defines.
#     config       at server level, after everything else
#     extra_vhosts after config
#     modules      names as in mod_NAME.so, besides the usual ones;
#                  proxy_fastcgi is the one in proxy/ here
#     module       0: without the module under test
#     files        { path below DocumentRoot => text or [text, mode] }
#     vars         { NAME => what @NAME@ stands for }
#     env          { name => value } of the httpd process
#     mpm          lines that replace the numbers of processes and threads;
#                  Httpd::single($threads) and several($threads) give some
#     log_level    'info'
#     override     'All', what .htaccess files may say in DocumentRoot
#     access_format  LogFormat of the access log
#     tls          1: a virtual host with a certificate on tls_port, with the
#                  lines of tls_config in it; rewrite rules are not inherited
#     http2        1: HTTP/2 on both ports, h2c with prior knowledge
# Environment: MPM (event, worker or prefork); PARK, a time for FcgiPark, 0 to
# park each request that waits, or Off; MODULE_SO, the module's file;
# HTTPD, the program; HTTPD_MODULES, the folder with its modules;
# HTTPD_PRELOAD, LD_PRELOAD for httpd alone.
#
# Httpd::is_at_least('2.4.59') is true of this httpd and later ones.
# Httpd::has_module('brotli') is true if this httpd has that one; they lie in
# Httpd::module_dir().
# Httpd::h2_shows_cuts() is true if an answer over HTTP/2 that is cut looks so
# where its length was not said before.
# Httpd::accepts_again() is true if this httpd, once all its threads were busy,
# accepts connections as soon as one is idle.
# Httpd::can_park() is true if requests can wait without a thread here.
#
# Httpd->start dies with the error log when the server does not come up.
# Httpd->start_under([command], same options) has a program like valgrind run
# it, as one process (-X); it says nothing in its log, but is up when it
# answers. The command may use @ROOT@.
# Httpd->configtest(same options, or the config alone) gives (exit status,
# output) of "httpd -t".
#     port, tls_port, root, docroot, pid
#     write($path, $text, $mode)   a file below DocumentRoot; returns its path
#     error_log, access_log        all that is there so far
#     wait_for_log($regex, $seconds)   for the error log; true if it matches
#     wait_for_access($regex, $seconds)   the same for the access log
#     pids         of the child processes
#     kill_children(@pids)   kills these outright, and waits until they are
#                  over; true if they are
#     graceful     reloads, waits until the new configuration serves
#     stop         ends the server; its logs stay until the object goes
#     healthy      whether no child crashed and no sanitizer spoke so far
#     ok_healthy   a test of that, after stopping the server, so that the
#                  way down is tested, too
#     leave        begins to stop; Httpd->ok_left at the test's end does the
#                  same test for all servers that left, so that a test with
#                  many does not wait for each
package Httpd;

use strict;
use warnings;
use Cwd qw(abs_path);
use File::Basename qw(dirname);
use IO::Socket::INET;
use Private;
use Test::More ();
use version ();

our @ISA = qw(Private::Server);

my $PROGRAM = $ENV{HTTPD} || '/usr/sbin/apache2';
my $MODULE_DIR = $ENV{HTTPD_MODULES} || '/usr/lib/apache2/modules';
my $TOP = abs_path(dirname(__FILE__) . '/../..');
my @USUAL = qw(authz_core authz_host unixd mime dir alias log_config setenvif
               env);
# The last that httpd says of it.
my $STARTED = qr/AH00094: Command line:/;
my $SANITIZER = qr/AddressSanitizer | LeakSanitizer | ThreadSanitizer
                   | :\ runtime\ error:/x;
my $CRASHED = qr/exit\ signal | $SANITIZER/x;

# One process serves, with room for those that end gracefully beside it.
my $THREADS = <<'EOC';
StartServers 1
ServerLimit 4
ThreadLimit 64
ThreadsPerChild 16
MinSpareThreads 1
MaxSpareThreads 16
MaxRequestWorkers 16
EOC

my %MPM = (event => $THREADS, worker => $THREADS, prefork => <<'EOC');
StartServers 8
ServerLimit 32
MinSpareServers 1
MaxSpareServers 16
MaxRequestWorkers 16
EOC

sub start {
    my ($class, %opt) = @_;
    my $self = $class->prepare(%opt);
    $self->{pid} = Private::spawn(
        exec => [$PROGRAM, '-DFOREGROUND', '-f', "$self->{dir}/httpd.conf"],
        log => "$self->{dir}/output", env => $self->environment);
    $self->wait_until_up(0) or die "httpd did not start\n" . $self->words;
    return $self;
}

sub start_under {
    my ($class, $command, %opt) = @_;
    my $self = $class->prepare(%opt);
    $self->{pid} = Private::spawn(
        exec => [(map { $self->substitute($_) } @$command),
                 $PROGRAM, '-X', '-f', "$self->{dir}/httpd.conf"],
        log => "$self->{dir}/output", env => $self->environment);
    Private::wait_until(60, sub {
        !Private::alive($self->{pid}) || $self->answers;
    });
    Private::alive($self->{pid}) && $self->answers
        or die "httpd did not start\n" . $self->words;
    return $self;
}

sub configtest {
    my ($class, @opt) = @_;
    unshift @opt, 'config' if @opt == 1;
    my $self = $class->prepare(@opt);
    my $env = $self->environment;
    return Private::run(
        'env', (map { "$_=$env->{$_}" } sort keys %$env),
        $PROGRAM, '-t', '-f', "$self->{dir}/httpd.conf");
}

# Everything but the process: directories, ports, configuration.
sub prepare {
    my ($class, %opt) = @_;
    my $self = $class->new('httpd',
        config => '', extra_vhosts => '', tls_config => '', modules => [],
        module => 1, log_level => 'info', override => 'All', files => {},
        vars => {}, env => {},
        access_format => '%h \"%r\" %>s %B %X %D %L', %opt);
    $self->{ports} = { map { $_ => Private::reserve_port() }
                       'PORT', $self->{tls} ? 'TLS_PORT' : () };
    mkdir "$self->{dir}/$_", 0755 for qw(docs logs run tmp);
    chmod 01777, "$self->{dir}/tmp";
    for my $path (sort keys %{ $self->{files} }) {
        my $file = $self->{files}{$path};
        $self->write($path, ref $file ? @$file : $file);
    }
    Private::spew("$self->{dir}/mime.types",
                  "text/html html\ntext/plain txt\ntext/css css\n");
    Private::spew("$self->{dir}/httpd.conf",
                  $self->substitute($self->configuration));
    return $self;
}

sub environment {
    my ($self) = @_;
    return {
        PATH => '/usr/local/bin:/usr/bin:/bin',
        TMPDIR => "$self->{dir}/tmp",
        $ENV{HTTPD_PRELOAD} ? (LD_PRELOAD => $ENV{HTTPD_PRELOAD}) : (),
        (map { $_ => $ENV{$_} } grep { $ENV{$_} } 'LLVM_PROFILE_FILE'),
        %{ $self->{env} },
    };
}

sub substitute {
    my ($self, $text) = @_;
    my %vars = (
        ROOT => "$self->{dir}", DOCROOT => $self->docroot,
        (map { $_ => $self->{ports}{$_}->sockport }
            keys %{ $self->{ports} }),
        %{ $self->{vars} });
    $text =~ s/\@(\w+)\@/$vars{$1} \/\/ "\@$1\@"/ge;
    return $text;
}

sub configuration {
    my ($self) = @_;
    return join "\n", $self->basics, $self->load_modules, $self->process,
        $self->documents, $self->protocols, $self->park, $self->{config},
        $self->{tls} ? $self->tls_vhost : (), $self->{extra_vhosts}, '';
}

# No ScoreBoardFile: without one it is memory that nobody else can see.
sub basics {
    my ($self) = @_;
    return <<"EOC";
ServerRoot \@ROOT\@
ServerName localhost
Listen 127.0.0.1:\@PORT\@
PidFile \@ROOT\@/run/httpd.pid
DefaultRuntimeDir run
ErrorLog logs/error.log
ErrorLogFormat "[%{u}t] [%-m:%l] [pid %P] [%L] %E: %M"
LogLevel $self->{log_level}
Timeout 30
KeepAliveTimeout 10
GracefulShutdownTimeout 60
AcceptFilter http none
AcceptFilter https none
EOC
}

sub load_modules {
    my ($self) = @_;
    my %seen;
    my @names = grep { !$seen{$_}++ } 'mpm_' . mpm(), @USUAL,
        $self->{tls} ? qw(socache_shmcb ssl) : (),
        $self->{http2} ? 'http2' : (), @{ $self->{modules} };
    my @lines = map { load_line($_, $_ eq 'proxy_fastcgi'
                                ? proxy_module_file()
                                : "$MODULE_DIR/mod_$_.so") }
        grep { -e "$MODULE_DIR/mod_$_.so" || !built_in($_) } @names;
    push @lines, load_line('fastcgi_handler', module_file())
        if $self->{module};
    return @lines;
}

sub load_line {
    my ($name, $file) = @_;
    return "LoadModule ${name}_module $file";
}

sub module_file {
    my @files = $ENV{MODULE_SO} || map { "$TOP/${_}mod_fastcgi_handler.so" }
        '', '.libs/';
    my ($file) = grep { -e } @files;
    return $file ? abs_path($file) : die "build the module first\n";
}

# The second module lies beside the first, in a folder of its own.
sub proxy_module_file {
    my $dir = $ENV{MODULE_SO} ? dirname(abs_path($ENV{MODULE_SO})) : $TOP;
    $dir = $TOP if !-d "$dir/proxy";
    my ($file) = grep { -e } map { "$dir/proxy/${_}mod_proxy_fastcgi.so" }
        '', '.libs/';
    return $file ? abs_path($file) : die "build mod_proxy_fastcgi first\n";
}

sub module_dir { return $MODULE_DIR }

sub has_module {
    my ($name) = @_;
    return -e "$MODULE_DIR/mod_$name.so" || built_in($name);
}

my $built_in;

sub built_in {
    my ($name) = @_;
    $built_in //= (Private::run($PROGRAM, '-l'))[1];
    return $built_in =~ /^\s*mod_\Q$name\E\.c$/m;
}

sub mpm { return $ENV{MPM} || 'event' }

my $version;

sub is_at_least {
    my ($wanted) = @_;
    ($version) = (Private::run($PROGRAM, '-v'))[1] =~ m{Apache/([\d.]+)}
        if !defined $version;
    return version->parse("v$version") >= version->parse("v$wanted");
}

# mod_http2 before 2.0 ends it as a whole one.
sub h2_shows_cuts { return is_at_least('2.4.55') }

# The event MPM may wait for something else to happen before.
sub accepts_again { return mpm() ne 'event' || is_at_least('2.4.54') }

# True if this httpd can be asked to wait for a request.
sub can_park { return mpm() eq 'event' && is_at_least('2.4.63') }

# For the option mpm, not on prefork: one child of so many threads, and never
# another.
sub single {
    my ($threads) = @_;
    return <<"EOC";
StartServers 1
ServerLimit 1
ThreadLimit $threads
ThreadsPerChild $threads
MinSpareThreads 1
MaxSpareThreads $threads
MaxRequestWorkers $threads
EOC
}

# For the option mpm: several children of so many threads each, and room for
# those that end.
sub several {
    my ($threads) = @_;
    my $all = 3 * $threads;
    return mpm() eq 'prefork' ? <<'PREFORK' : <<"THREADS";
StartServers 10
ServerLimit 40
MinSpareServers 8
MaxSpareServers 16
MaxRequestWorkers 20
PREFORK
StartServers 3
ServerLimit 12
ThreadLimit 64
ThreadsPerChild $threads
MinSpareThreads $all
MaxSpareThreads $all
MaxRequestWorkers $all
THREADS
}

# As root, httpd serves as www-data, as it does in earnest.
sub process {
    my ($self) = @_;
    my $mpm = mpm();
    return ($> == 0 ? "User www-data\nGroup www-data" : (),
            $self->{mpm} // $MPM{$mpm} // die "no MPM is called $mpm\n");
}

sub documents {
    my ($self) = @_;
    return <<"EOC";
LogFormat "$self->{access_format}" test
CustomLog logs/access.log test
TypesConfig mime.types
DirectoryIndex index.html
DocumentRoot \@DOCROOT\@
<Directory />
  AllowOverride None
  Require all denied
</Directory>
<Directory \@DOCROOT\@>
  AllowOverride $self->{override}
  Options FollowSymLinks
  Require all granted
</Directory>
EOC
}

# PARK=0: every request that waits does so without a thread, as far as it can.
sub park {
    my ($self) = @_;
    return defined $ENV{PARK} && $self->{module} ? "FcgiPark $ENV{PARK}" : ();
}

sub protocols {
    my ($self) = @_;
    return $self->{http2} ? 'Protocols h2 h2c http/1.1' : ();
}

sub tls_vhost {
    my ($self) = @_;
    my $pem = certificate();
    return <<"EOC";
Listen 127.0.0.1:\@TLS_PORT\@ https
<VirtualHost 127.0.0.1:\@TLS_PORT\@>
  SSLEngine on
  SSLCertificateFile $pem
  $self->{tls_config}
</VirtualHost>
EOC
}

# Key and self-signed certificate in one file, made once in a test.
my $certificate_dir;

sub certificate {
    return "$certificate_dir/both.pem" if $certificate_dir;
    my $dir = Private::temp_dir('tls');
    my ($status, $output) = Private::run(
        qw(openssl req -x509 -newkey ec -pkeyopt
           ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost),
        '-addext', 'subjectAltName=DNS:localhost,IP:127.0.0.1',
        '-keyout', "$dir/key.pem", '-out', "$dir/cert.pem");
    die "openssl: $output" if $status;
    Private::spew("$dir/both.pem", Private::slurp("$dir/key.pem")
                  . Private::slurp("$dir/cert.pem"), 0600);
    $certificate_dir = $dir;
    return "$dir/both.pem";
}

# True when the log tells of more than $times starts and the port answers.
sub wait_until_up {
    my ($self, $times) = @_;
    Private::wait_until(10, sub {
        !Private::alive($self->{pid}) || $self->starts > $times;
    });
    return Private::alive($self->{pid}) && $self->starts > $times
        && $self->answers;
}

sub answers {
    my ($self) = @_;
    return IO::Socket::INET->new(
        PeerAddr => '127.0.0.1', PeerPort => $self->port, Timeout => 5);
}

sub starts {
    my ($self) = @_;
    my @starts = $self->error_log =~ /$STARTED/g;
    return scalar @starts;
}

# What the server has said anywhere.
sub words {
    my ($self) = @_;
    return Private::slurp("$self->{dir}/output") . $self->error_log;
}

sub port     { return $_[0]{ports}{PORT}->sockport }
sub tls_port { return $_[0]{ports}{TLS_PORT}->sockport }
sub root     { return "$_[0]{dir}" }
sub docroot  { return "$_[0]{dir}/docs" }
sub pid      { return $_[0]{pid} }

sub write {
    my ($self, $path, $text, $mode) = @_;
    return Private::spew($self->docroot . "/$path",
                         $self->substitute($text), $mode);
}

sub error_log  { return Private::slurp("$_[0]{dir}/logs/error.log") }
sub access_log { return Private::slurp("$_[0]{dir}/logs/access.log") }

sub wait_for_log {
    my ($self, $regex, $seconds) = @_;
    return Private::wait_until($seconds // 10, sub {
        $self->error_log =~ $regex;
    });
}

sub wait_for_access {
    my ($self, $regex, $seconds) = @_;
    return Private::wait_until($seconds // 10, sub {
        $self->access_log =~ $regex;
    });
}

sub pids {
    my ($self) = @_;
    my $children = "/proc/$self->{pid}/task/$self->{pid}/children";
    return split ' ', Private::slurp($children);
}

# A process that is killed may take one more connection, which dies with it,
# until the last of its threads is gone.
sub kill_children {
    my ($self, @pids) = @_;
    kill 'KILL', @pids;
    return Private::wait_until(10, sub { !grep { !is_over($_) } @pids });
}

# True if no thread of a process is left, buried or not.
sub is_over {
    my ($pid) = @_;
    my $stat = Private::slurp("/proc/$pid/stat");
    return $stat eq '' || $stat =~ /\) Z (?:\S+ ){16}1 /;
}

sub graceful {
    my ($self) = @_;
    my $times = $self->starts;
    kill 'USR1', $self->{pid};
    $self->wait_until_up($times)
        or die "httpd did not reload\n" . $self->words;
    return;
}

# What is said after a TERM is no word of the module, unless a sanitizer's.
sub healthy {
    my ($self) = @_;
    my $log = $self->error_log;
    my $after = substr $log, $self->{told_to_end} // length $log, length $log,
        '';
    my $before = Private::slurp("$self->{dir}/output") . $log;
    return $before !~ $CRASHED && $after !~ $SANITIZER;
}

# On TERM the event MPM closes sockets under its own threads, and one child in
# a hundred crashes over it, with any module or none. A graceful stop does not;
# where that takes too long, as on a busy machine, what follows does not count.
# httpd looks once a second whether its children have ended, and at any signal.
sub stop_gracefully {
    my ($self) = @_;
    my $pid = $self->{pid};
    if ($pid) {
        kill 'WINCH', $pid;
        Private::wait_until(5, sub {
            kill 'WINCH', $pid if !grep { !is_over($_) } $self->pids;
            return !Private::alive($pid);
        }) or $self->{told_to_end} = length $self->error_log;
    }
    $self->stop;
    return;
}

sub ok_healthy {
    my ($self) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    $self->stop_gracefully;
    my $ok = Test::More::ok($self->healthy, 'no child crashed');
    Test::More::diag($self->words) if !$ok;
    return $ok;
}

my @LEFT;

sub leave {
    my ($self) = @_;
    kill 'WINCH', $self->{pid} if $self->{pid};
    push @LEFT, $self;
    return;
}

sub ok_left {
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    $_->ok_healthy for splice @LEFT;
    return;
}

1;
